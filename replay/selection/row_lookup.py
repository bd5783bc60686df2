"""Which records touch a row of a read model: all of customer X. Must not write anything.

The tables do not say from which records a row was made, so the log is folded to find out: once for the rows that belong
to what is asked for, and once for the records that touch any of them.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

from processors.outcome import Folded
from processors.store import LIVE_GENERATION
from replay.ports import BatchReader, Connection
from replay.selection.matcher import Fold
from replay.selection.selection import Range
from schemas.errors import InvalidSelection
from schemas.event_ids import decoded_key
from schemas.facts import TABLES
from schemas.lattice import Row, Table

VIEW_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "accounts": ("source", "customer_id"),
    "credits": ("source", "customer_id"),
    "conversations": ("source", "channel", "our_number", "peer_number"),
}
"""Read models over several facts: every fact that has these columns says what belongs to a row."""

SHARED_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "credit_entries": ("credit_entries", "payments"),
    "crm_objects": ("crm_objects", "crm_properties"),
}
"""Read models that join fact tables by the key itself."""

RowKey = tuple[str, ...]
"""A row of a read model: its name, and the values of its key."""

FactKey = tuple[str, tuple[str, ...]]
"""Table, and the beginning of a key in it, as texts."""


class Touched:
    """The requested rows, and the facts' keys that were found to belong to them."""

    def __init__(self, keys: Iterable[RowKey]) -> None:
        self._keys: set[FactKey] = set()
        self._lengths: dict[str, set[int]] = {}
        self._columns: dict[str, list[tuple[tuple[int, ...], tuple[str, ...]]]] = {}
        """Table -> positions of a view's key columns, and the values that are asked for."""
        for key in keys:
            self._ask(key)

    def _ask(self, key: RowKey) -> None:
        model, values = key[0], key[1:]
        columns = VIEW_KEYS.get(model)
        tables = {table.name: table for table in TABLES}
        if columns is not None:
            _require(key, columns)
            for table in TABLES:
                names = [column.name for column in table.columns]
                if set(columns) <= set(names):
                    places = tuple(names.index(name) for name in columns)
                    self._columns.setdefault(table.name, []).append((places, values))
            return
        if model not in tables:
            known = ", ".join(sorted({*VIEW_KEYS, *tables}))
            raise InvalidSelection(f"no read model with keys is called {model!r}; there are: {known}")
        _require(key, tables[model].keys)
        for name in SHARED_KEYS.get(model, (model,)):
            self.add(name, values)

    @property
    def is_complete(self) -> bool:
        """True if the request alone gives all keys."""
        return not self._columns

    def add(self, table: str, key: tuple[str, ...]) -> None:
        self._keys.add((table, key))
        self._lengths.setdefault(table, set()).add(len(key))

    def learn(self, folded: Folded) -> None:
        """Facts that name what is asked for bring the keys of their rows in."""
        for table, row in folded.rows:
            for places, values in self._columns.get(table.name, ()):
                if all(row[place] == value for place, value in zip(places, values, strict=True)):
                    self.add(table.name, _key_of(table, row))

    async def learn_live(self, connection: Connection) -> None:
        """Read the rows of the live generation."""
        generation = await connection.fetchval(LIVE_GENERATION)
        for table in TABLES:
            for places, values in self._columns.get(table.name, ()):
                where = " AND ".join(f"{table.columns[place].name} = ${n}" for n, place in enumerate(places, start=1))
                # The names are those of our own declarations.
                query = f"SELECT {', '.join(table.keys)} FROM gen_{generation}.{table.name} WHERE {where}"  # noqa: S608
                for found in await connection.fetch(query, *values):
                    self.add(table.name, tuple(str(value) for value in found))

    def holds(self, folded: Folded) -> bool:
        for table, row in folded.rows:
            lengths = self._lengths.get(table.name)
            if lengths:
                key = _key_of(table, row)
                if any((table.name, key[:length]) in self._keys for length in lengths):
                    return True
        return False


def _require(key: RowKey, columns: Sequence[str]) -> None:
    if len(key) != 1 + len(columns):
        raise InvalidSelection(f"the key of {key[0]} is {', '.join(columns)}")


def _key_of(table: Table[Any], row: Row) -> tuple[str, ...]:
    return tuple(str(value) for value in table.key(row))


async def locate_touching(
    reader: BatchReader, connection: Connection, keys: Sequence[RowKey], where: tuple[Sequence[Range], Fold]
) -> list[Range]:
    """Every offset of `where` whose record touches one of the keys; where none does, their escapes are read."""
    found = await _locate(reader, connection, keys, where)
    decoded = [(key[0], *(decoded_key(key[1:]) or key[1:])) for key in keys]
    return found if found or decoded == list(keys) else await _locate(reader, connection, decoded, where)


async def _locate(
    reader: BatchReader, connection: Connection, keys: Sequence[RowKey], where: tuple[Sequence[Range], Fold]
) -> list[Range]:
    ranges, fold = where
    touched = Touched(keys)
    if not touched.is_complete:
        await touched.learn_live(connection)
        async for _, folded in _folded(reader, ranges, fold):
            touched.learn(folded)
    return [
        Range(record.topic, record.partition, record.offset, record.offset + 1)
        async for record, folded in _folded(reader, ranges, fold)
        if touched.holds(folded)
    ]


async def _folded(
    reader: BatchReader, ranges: Sequence[Range], fold: Callable[[Any], Folded]
) -> AsyncIterator[tuple[Any, Folded]]:
    if ranges:
        async for _, records in reader.read(ranges):
            for record in records:
                yield record, fold(record)
