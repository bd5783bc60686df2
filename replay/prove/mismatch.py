"""Which rows of a table differ between two folds, by key and column. Must not hold a table, nor show a value."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from replay.ports import Connection
from replay.prove.certificate import Difference, DifferenceKind
from replay.prove.merkle import canonical_columns, rows_sql, texts_sql
from schemas.lattice import Table
from schemas.masking import mask_key

LISTED: Final = 100
"""The limit over all tables; differences beyond it are only counted."""

_PREFETCH: Final = 500


@dataclass(slots=True)
class Differences:
    """The first of them, and how many there are."""

    listed: list[Difference] = field(default_factory=list)
    total: int = 0

    @property
    def has_room(self) -> bool:
        return len(self.listed) < LISTED

    def add(self, found: Difference) -> None:
        self.total += 1
        if self.has_room:
            self.listed.append(found)


@dataclass(frozen=True, slots=True)
class Side:
    """One of two folds: a connection that is in a transaction, and the schema that it sees the rows in."""

    connection: Connection
    schema: str

    async def rows(self, table: Table[Any], buckets: Sequence[int]) -> AsyncIterator[asyncpg.Record]:
        """The rows of some buckets, in the order of their keys' hashes."""
        sql = f"SELECT * FROM ({rows_sql(self.schema, table)}) AS hashed WHERE bucket = ANY($1::integer[])"  # noqa: S608
        async for row in self.connection.cursor(f"{sql} ORDER BY key_digest", buckets, prefetch=_PREFETCH):
            yield row

    async def texts(self, table: Table[Any], key: Sequence[Any]) -> list[str | None]:
        where = " AND ".join(f"{name} = ${place}" for place, name in enumerate(table.keys, start=1))
        sql = f"SELECT {texts_sql(canonical_columns(table))} FROM {self.schema}.{table.name} WHERE {where}"  # noqa: S608
        found: list[str | None] = await self.connection.fetchval(sql, *key)
        return found


async def compare(live: Side, log: Side, table: Table[Any], buckets: Sequence[int], found: Differences) -> None:
    """Walk both sides at once, and name every row that only one has, or that differs."""
    theirs, ours = live.rows(table, buckets), log.rows(table, buckets)
    there, here = await anext(theirs, None), await anext(ours, None)
    while there is not None or here is not None:
        if there is not None and (here is None or there["key_digest"] < here["key_digest"]):
            found.add(_difference(table, there, "unexpected"))
            there = await anext(theirs, None)
        elif here is not None and (there is None or here["key_digest"] < there["key_digest"]):
            found.add(_difference(table, here, "missing"))
            here = await anext(ours, None)
        elif there is not None and here is not None:
            if there["digest"] != here["digest"]:
                columns = await _changed(live, log, table, here) if found.has_room else []
                found.add(_difference(table, here, "changed", columns))
            there, here = await anext(theirs, None), await anext(ours, None)


async def _changed(live: Side, log: Side, table: Table[Any], row: asyncpg.Record) -> list[str]:
    key = [row[name] for name in table.keys]
    pairs = zip(await live.texts(table, key), await log.texts(table, key), strict=True)
    differs = {column.name for column, (a, b) in zip(canonical_columns(table), pairs, strict=True) if a != b}
    # As they are declared: what people look for comes before what is hidden.
    return [column.name for column in table.columns if column.name in differs]


def _difference(
    table: Table[Any], row: asyncpg.Record, kind: DifferenceKind, columns: Sequence[str] = ()
) -> Difference:
    key = {name: mask_key(str(row[name])) for name in table.keys}
    return Difference(table=table.name, key=key, columns=list(columns), kind=kind)
