"""The processors' projections and store, as the port that a replay drives."""

import sys
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from processors import projections
from processors.fold import Dead, Folded, fold_record
from processors.store import Connection, FactStore, Store, Written
from processors.worker import LIVE_GENERATION
from replay.ports import RawRecord
from schemas.errors import Misconfigured


def versions() -> dict[str, int]:
    """The `VERSION` of each projection's module; 1 where it says none."""
    return {
        key: int(getattr(sys.modules.get(getattr(projection, "__module__", "")), "VERSION", 1))
        for key, projection in projections.PROJECTIONS.items()
    }


class NoDeadLetters:
    """A replayed record that is still poison has its dead letter from the first time."""

    async def put(self, letters: Sequence[Dead]) -> None:
        return None


class SchemaFolding:
    """Folds into the fact tables of one schema, and leaves the index of the log alone."""

    def __init__(self, store: FactStore) -> None:
        self._store = store

    @classmethod
    def into(cls, schema: str) -> "SchemaFolding":
        return cls(FactStore(schema, NoDeadLetters()))

    def fold(self, raw: RawRecord) -> Folded | Dead:
        return fold_record(raw)  # type: ignore[arg-type]

    async def commit(
        self,
        connection: Connection,
        records: Sequence[Folded | Dead],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Written], Awaitable[None]],
    ) -> Written:
        folded = [record for record in records if isinstance(record, Folded)]
        dead = [record for record in records if isinstance(record, Dead)]
        return await self._store.commit(connection, folded, dead, first, last)


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
