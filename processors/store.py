"""Rows to Postgres: changes, event index and position in one transaction. Must not know Kafka or projections."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString, Protocol, TypeAlias

import asyncpg

from processors.failures import verdict_of
from processors.fold import Changes, Dead, Folded, combine, dead_record
from schemas import table_sql
from schemas.errors import PoisonRecord, RedriveError
from schemas.facts import TABLES
from schemas.masking import describe

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

ADVANCE: Final[LiteralString] = "SELECT live, stored, is_advanced FROM redrive.advance($1, $2, $3, $4, $5)"

GIVE_UP_WAITING: Final[LiteralString] = "SET LOCAL lock_timeout = '2s'"
"""Who waits for a row that somebody holds occupies a connection that other partitions need."""

INDEX_COLUMNS: Final = {
    "source": "text[]",
    "event_id": "text[]",
    "topic": "text[]",
    "partition": "integer[]",
    "record_offset": "bigint[]",
    "record_id": "text[]",
    "fingerprint": "bytea[]",
    "provider": "text[]",
    "type": "text[]",
    "occurred_at": "timestamptz[]",
    "received_at": "timestamptz[]",
    "status": "text[]",
    "error": "text[]",
}

_RANK: Final = "array_position(ARRAY['dead', 'ignored', 'applied'], {}.status::text)"
UPSERT_INDEX: Final = (
    f"INSERT INTO redrive.event_index AS t ({', '.join(INDEX_COLUMNS)}) SELECT * FROM unnest("  # noqa: S608 - constants
    + ", ".join(f"${i}::{kind}" for i, kind in enumerate(INDEX_COLUMNS.values(), start=1))
    + ") ON CONFLICT (source, event_id, topic, partition, record_offset) DO UPDATE SET status = EXCLUDED.status,"
    + " type = EXCLUDED.type, occurred_at = EXCLUDED.occurred_at, fingerprint = EXCLUDED.fingerprint,"
    + f" error = EXCLUDED.error WHERE {_RANK.format('EXCLUDED')} > {_RANK.format('t')}"
)


REVIVE: Final[LiteralString] = """
    DELETE FROM redrive.event_index AS t
    USING unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[])
        AS r (source, event_id, topic, partition, record_offset)
    WHERE (t.source, t.event_id, t.topic, t.partition, t.record_offset)
        = (r.source, r.event_id, r.topic, r.partition, r.record_offset) AND t.status = 'dead'
"""
"""A batch that was dead was indexed under its record id; once it can be read, its events stand for it."""


class GenerationMoved(RedriveError):
    """Another generation is live: forget what was read, and seek to its positions."""


class PositionGap(RedriveError):
    """The batch starts past the stored position: roll back, and seek to `stored`."""

    def __init__(self, stored: int) -> None:
        self.stored = stored
        super().__init__(f"the stored position is {stored}")


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) of a partition: where the reading stood before the batch, and where it stands after."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did: its dead letters, how many events it indexed, how many fact rows changed."""

    letters: list[Dead]
    events: int
    rows_changed: int

    @property
    def dead(self) -> int:
        return len(self.letters)


class DeadLetters(Protocol):
    """Where records go that no projection could apply. `put` returns when they are durable."""

    async def put(self, letters: Sequence[Dead]) -> None: ...


class FactStore:
    """The fact tables in one schema. Only a live generation's also keeps the index of the log."""

    def __init__(self, schema: str, dead_letters: DeadLetters, is_indexing: bool = False) -> None:
        self._dead_letters = dead_letters
        self._is_indexing = is_indexing
        self._upserts = {table: table_sql.upsert(table, schema) for table in TABLES}

    async def commit(
        self,
        connection: Connection,
        folded: Sequence[Folded],
        dead: Sequence[Dead],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Written], Awaitable[None]] | None = None,
    ) -> Written:
        """One transaction: `first`, all rows, dead letters, `last`.

        Where Postgres refuses the data, the batch is bisected inside savepoints until the records at fault stand alone.
        """
        try:
            async with connection.transaction():
                await first()
                changed = await self._write(connection, combine(folded, dead))
                return await self._complete(folded, list(dead), changed, last)
        except Exception as error:
            if verdict_of(error) == "retry":
                raise
        async with connection.transaction():
            await first()
            refused: list[Dead] = []
            changed = await self._write_bisecting(connection, folded, refused)
            letters = [*dead, *refused]
            await self._write(connection, combine((), letters))
            return await self._complete(folded, letters, changed, last)

    async def _complete(
        self,
        folded: Sequence[Folded],
        letters: list[Dead],
        changed: int,
        last: Callable[[Written], Awaitable[None]] | None,
    ) -> Written:
        """Dead letters are durable before the transaction that passes over their records."""
        await self._dead_letters.put(letters)
        written = Written(letters, sum(len(one.events) for one in folded), changed)
        if last is not None:
            await last(written)
        return written

    async def _write_bisecting(self, connection: Connection, folded: Sequence[Folded], refused: list[Dead]) -> int:
        if not folded:
            return 0
        try:
            async with connection.transaction():
                return await self._write(connection, combine(folded))
        except Exception as error:
            if verdict_of(error) == "retry":
                raise
            if len(folded) == 1:
                refused.append(dead_record(folded[0].raw, PoisonRecord("refused_by_database", describe(error))))
                return 0
        middle = len(folded) // 2
        left = await self._write_bisecting(connection, folded[:middle], refused)
        return left + await self._write_bisecting(connection, folded[middle:], refused)

    async def _write(self, connection: Connection, changes: Changes) -> int:
        changed = 0
        for table, rows in changes.tables.items():
            try:
                status = await connection.execute(self._upserts[table], *table.arrays(rows))
            except asyncpg.PostgresError as error:
                # Postgres names the table only where a constraint is at fault, and its values are not repeated.
                error.table_name = error.table_name or table.name
                raise
            changed += int(status.rpartition(" ")[2])
        if not self._is_indexing:
            return changed
        if changes.events:
            await connection.execute(UPSERT_INDEX, *zip(*changes.events, strict=True))
        if changes.revived:
            await connection.execute(REVIVE, *zip(*changes.revived, strict=True))
        return changed


class Store(FactStore):
    """The fact tables of the generation that live workers fold into, and the index of the log."""

    def __init__(self, generation: int, dead_letters: DeadLetters) -> None:
        super().__init__(f"gen_{generation}", dead_letters, is_indexing=True)
        self.generation = generation

    async def commit_batch(
        self, connection: Connection, span: Span, folded: Sequence[Folded], dead: Sequence[Dead]
    ) -> list[Dead]:
        """Write a live batch with its position. Returns every dead letter, those that Postgres refused included.

        Raises `PositionGap`, `GenerationMoved`, or what the driver raises where a retry helps.
        """

        async def advance() -> None:
            await connection.execute(GIVE_UP_WAITING)
            row = await connection.fetchrow(ADVANCE, self.generation, span.topic, span.partition, span.start, span.end)
            if row is None or row["live"] != self.generation:
                raise GenerationMoved
            if not row["is_advanced"]:
                raise PositionGap(row["stored"])

        return (await self.commit(connection, folded, dead, advance)).letters
