"""Folds records into the fact tables of one schema, with the projections and the store of the live workers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import asyncpg

from processors import projections
from processors.fold import fold_record
from processors.outcome import Dead, Folded, RawRecord
from processors.rows import TableRow
from processors.store import LIVE_GENERATION, Connection, FactStore, Store, Written
from schemas.errors import Misconfigured

Projections: TypeAlias = Mapping[str, tuple[int, frozenset[str]]]
"""Projection -> (its version, the fact tables that its rows go to)."""


def code() -> Projections:
    """The projections of this process."""
    writes = projections.writes()
    return {key: (version, writes[key]) for key, version in projections.versions().items()}


class NoDeadLetters:
    """A replayed record that is still poison has its dead letter from the first time."""

    async def put(self, letters: Sequence[Dead]) -> None:
        return None


class SchemaFolding:
    """Folds into the fact tables of one schema, and leaves the index of the log alone."""

    def __init__(self, store: FactStore, only: frozenset[str] | None = None) -> None:
        self._store = store
        self._only = only

    @classmethod
    def into(cls, schema: str, only: frozenset[str] | None = None) -> "SchemaFolding":
        """`only`: the tables to write; None: all."""
        return cls(FactStore(schema, NoDeadLetters()), only)

    def fold(self, raw: RawRecord) -> Folded:
        folded = fold_record(raw)
        if self._only is None:
            return folded
        return folded._replace(rows_of=tuple([self._written(rows) for rows in folded.rows_of]))

    def _written(self, rows: tuple[TableRow, ...]) -> tuple[TableRow, ...]:
        return tuple([row for row in rows if self._only is None or row[0].name in self._only])

    async def commit(
        self,
        connection: Connection,
        records: Sequence[Folded],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Written], Awaitable[None]],
    ) -> Written:
        return await self._store.commit(connection, records, first, last)


class LiveFolding(SchemaFolding):
    """Folds into the generation that is live now."""

    def __init__(self, generation: int) -> None:
        super().__init__(Store(generation, NoDeadLetters()))
        self.generation = generation

    @classmethod
    async def open(cls, connection: Connection) -> "LiveFolding":
        try:
            return cls(await connection.fetchval(LIVE_GENERATION))
        except asyncpg.UndefinedTableError as error:
            raise Misconfigured("the database has no redrive schema: run `redrive migrate --apply`") from error
