"""One row of a fact table as its records made it: each record's values, and the one that won each column. Pure."""

from dataclasses import dataclass, field
from typing import Any

from processors.outcome import RawRecord
from schemas.lattice import Row, Table
from schemas.version_bytes import HEAD_BYTES, UNSET, version_head


@dataclass(frozen=True, slots=True)
class RecordName:
    """A record, as people look for it."""

    topic: str
    partition: int
    offset: int
    arrived_ms: int
    record_id: str
    type: str

    @classmethod
    def of(cls, raw: RawRecord) -> "RecordName":
        headers = dict(raw.headers)
        record_id, kind = ((headers.get(name) or b"").decode("utf-8", "replace") for name in ("ce_id", "ce_type"))
        return cls(raw.topic, raw.partition, raw.offset, raw.timestamp, record_id, kind)

    @property
    def place(self) -> tuple[int, str, int, int]:
        """Partitions know no order among each other but that of arrival."""
        return (self.arrived_ms, self.topic, self.partition, self.offset)

    @property
    def location(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One record's contribution to one row. `values` are the columns that it sets."""

    record: RecordName
    event_id: str
    values: dict[str, Any]


@dataclass(slots=True)
class History:
    """One row of a fact table, as the log made it. The row is the same in whatever order records are added."""

    table: Table[Any]
    key: Row
    contributions: list[Contribution] = field(default_factory=list)
    row: Row | None = None
    won: dict[str, RecordName] = field(default_factory=dict)
    """Column -> the record whose value won."""

    def add(self, record: RecordName, row: Row) -> None:
        """Join a row, and note the columns that now have this record's value. The first of equal values wins."""
        columns = self.table.columns
        said = {c.name: value for c, value in zip(columns, row, strict=True) if not c.is_hidden and value is not None}
        for name in self.table.keys:
            del said[name]
        self.contributions.append(Contribution(record, _event_id(self.table, row) or record.record_id, said))
        before, self.row = self.row, row if self.row is None else self.table.join(self.row, row)
        if before is None:
            self.won.update(dict.fromkeys(said, record))
            return
        together = {name: group for group in self.table.groups for name in group.names}
        for place, column in enumerate(columns):
            if column.name in self.table.keys or column.is_hidden:
                continue
            group = together.get(column.name)
            is_moved = group is not None and version_head(self.row[group.version]) != version_head(
                before[group.version]
            )
            if is_moved or self.row[place] != before[place]:
                if self.row[place] is None:
                    self.won.pop(column.name, None)
                else:
                    self.won[column.name] = record


def _event_id(table: Table[Any], row: Row) -> str | None:
    """The id of the event that said it, where one of the row's versions has it."""
    for group in table.groups:
        version = row[group.version]
        if version != UNSET:
            return bytes(version[HEAD_BYTES:]).partition(b"\0")[0].decode()
    return None
