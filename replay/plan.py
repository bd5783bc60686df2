"""A replay, before it runs: which offsets, how many records of which types, what is left to the live workers."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

from replay.ports import Connection, FoldedRecord, RawRecord
from replay.selection import Range, Selection, iso_of
from replay.window import LogReader

_LOCATIONS: Final[LiteralString] = """
    SELECT topic, partition, record_offset FROM redrive.event_index
    WHERE source = ANY($1::text[]) AND event_id = $2 ORDER BY topic, partition, record_offset
"""
_POSITIONS: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation)
"""
BATCH_SUFFIX: Final = ".batch"

Fold = Callable[[RawRecord], FoldedRecord]


@dataclass(slots=True)
class Plan:
    """`ranges` are what a run reads: below the live positions, because the rest belongs to the live workers."""

    selection: Selection
    ranges: list[Range]
    left_to_live: int = 0
    records: int = 0
    types: Counter[str] = field(default_factory=Counter)
    per_partition: Counter[tuple[str, int]] = field(default_factory=Counter)
    first_ms: int | None = None
    last_ms: int | None = None

    @property
    def offsets(self) -> int:
        """How many offsets a run reads, selected or not: what its progress counts."""
        return sum(len(part) for part in self.ranges)

    def add(self, record: Any, kind: str) -> None:
        self.records += 1
        self.types[kind] += 1
        self.per_partition[record.topic, record.partition] += 1
        self.first_ms = record.timestamp if self.first_ms is None else min(self.first_ms, record.timestamp)
        self.last_ms = record.timestamp if self.last_ms is None else max(self.last_ms, record.timestamp)

    def as_document(self) -> dict[str, Any]:
        return {
            "selection": self.selection.as_document(),
            "records": self.records,
            "types": dict(sorted(self.types.items())),
            "ranges": [
                {
                    "topic": part.topic,
                    "partition": part.partition,
                    "start": part.start,
                    "end": part.end,
                    "records": self.per_partition[part.topic, part.partition],
                }
                for part in self.ranges
            ],
            "first_arrival": iso_of(self.first_ms),
            "last_arrival": iso_of(self.last_ms),
            "left_to_live": self.left_to_live,
        }


def type_of(record: RawRecord) -> str:
    """A record's CloudEvents type, without reading its body."""
    return next((value.decode("utf-8", "replace") for name, value in record.headers if name == "ce_type"), "unknown")


def is_selected(selection: Selection, record: RawRecord, fold: Fold) -> bool:
    """Whether a record of the ranges belongs to the selection. A batch belongs if one of its events does."""
    if not selection.holds_time(record.timestamp):
        return False
    if selection.type_glob is None:
        return True
    kind = type_of(record)
    if selection.holds_type((kind,)):
        return True
    return kind.endswith(BATCH_SUFFIX) and selection.holds_type(fold(record).types)


async def locate(connection: Connection, selection: Selection) -> list[Range]:
    """Every offset that holds the selected event."""
    if selection.event_id is None:
        return []
    rows = await connection.fetch(_LOCATIONS, list(selection.sources), selection.event_id)
    return [Range(row["topic"], row["partition"], row["record_offset"], row["record_offset"] + 1) for row in rows]


async def bound_by_live(connection: Connection, ranges: Sequence[Range]) -> tuple[list[Range], int]:
    """Cut the ranges at the live positions; returns them and how many offsets were cut off."""
    rows = await connection.fetch(_POSITIONS)
    positions = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    cut = [
        Range(part.topic, part.partition, part.start, min(part.end, positions.get((part.topic, part.partition), 0)))
        for part in ranges
    ]
    kept = [part for part in cut if len(part)]
    return kept, sum(map(len, ranges)) - sum(map(len, kept))


async def make_plan(
    reader: LogReader, connection: Connection, selection: Selection, fold: Fold, advance: Callable[[int, int], None]
) -> Plan:
    """Read the ranges and count. `advance(done, of)` hears how many offsets were read."""
    ranges = await reader.ranges(selection, await locate(connection, selection))
    kept, left = await bound_by_live(connection, ranges)
    plan = Plan(selection, kept, left)
    done = 0
    if kept:
        async for part, records in reader.read(kept):
            for record in records:
                if is_selected(selection, record, fold):
                    plan.add(record, type_of(record))
            done += len(part)
            advance(done, plan.offsets)
    return plan
