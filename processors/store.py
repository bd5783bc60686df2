"""Rows to Postgres: changes, event index and position in one transaction. Must not know Kafka or projections."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, LiteralString, Protocol, TypeAlias
from uuid import UUID

import asyncpg

from processors.failures import verdict_of
from processors.fold import Changes, combine, refused_event
from processors.outcome import Dead, Folded, Refusal
from processors.rows import STATEMENT_SIZE, portions
from schemas import table_sql
from schemas.errors import RedriveError
from schemas.facts import TABLES
from schemas.masking import describe

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

LIVE_GENERATION: Final[LiteralString] = "SELECT live FROM redrive.generation"

ADVANCE: Final[LiteralString] = """
    SELECT live, stored, is_other_log, is_advanced FROM redrive.advance($1, $2, $3, $4, $5, $6)
"""

STATEMENT_EVENTS: Final = 10_000

GIVE_UP_WAITING: Final[LiteralString] = "SET LOCAL lock_timeout = '2s'"
"""A longer wait for a locked row would keep a connection from the other partitions."""

END_IF_IDLE: Final[LiteralString] = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
"""A writer holds the writers' lock: a process that freezes there must not stop the others. Postgres ends its session,
and its batch is folded again.
"""

# A process that freezes while it sends is not idle to Postgres: the session waits for the rest of a message. Excluded:
# a COPY, which waits for its client, too, and a session of another program with the same login.
_END_HALF_SENT: Final[LiteralString] = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user
      AND application_name = current_setting('application_name')
      AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
      AND greatest(state_change, query_start) < now() - interval '15 s' AND query NOT ILIKE 'copy%'
"""

INDEX_COLUMNS: Final = {
    "source": "text[]",
    "event_id": "text[]",
    "topic": "text[]",
    "partition": "integer[]",
    "record_offset": "bigint[]",
    "ordinal": "integer[]",
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
    + " ordinal = EXCLUDED.ordinal, type = EXCLUDED.type, occurred_at = EXCLUDED.occurred_at,"
    + " fingerprint = EXCLUDED.fingerprint, error = EXCLUDED.error"
    + f" WHERE {_RANK.format('EXCLUDED')} > {_RANK.format('t')}"
)


REVIVE: Final[LiteralString] = """
    DELETE FROM redrive.event_index AS t
    USING unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[]) AS r (topic, partition, record_offset, ordinal)
    WHERE (t.topic, t.partition, t.record_offset) = (r.topic, r.partition, r.record_offset) AND t.status = 'dead'
      AND (r.ordinal IS NULL OR t.ordinal = r.ordinal)
"""
"""Delete dead letters of an earlier reading of a batch: those of this reading, which are written next, replace them. A
batch that was dead as a whole was indexed under its record id.
"""


class GenerationMoved(RedriveError):
    """Another generation is live: forget what was read, and seek to its positions."""


class TopicReplaced(RedriveError):
    """The batch is of a topic that was created again since: forget it, and seek to the new one's positions."""


class TakenBack(RedriveError):
    """A transaction that was only tried has succeeded, and is rolled back."""


class PositionGap(RedriveError):
    """The batch starts past the stored position: roll back, and seek to `stored`."""

    def __init__(self, stored: int) -> None:
        self.stored = stored
        super().__init__(f"the stored position is {stored}")


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) of a partition: the reader's offsets before and after the batch. `topic_id` identifies the log;
    None: not known.
    """

    topic: str
    partition: int
    start: int
    end: int
    topic_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a transaction: its dead letters, the counts of applied and ignored events and changed rows.

    `dead_records` are those with nothing but dead events.
    """

    letters: list[Dead]
    events: int
    rows_changed: int
    dead_records: int

    @property
    def dead(self) -> int:
        return len(self.letters)


class DeadLetterSink(Protocol):
    """Where events go that no projection could apply. `put` returns when they are durable."""

    async def put(self, letters: Sequence[Dead]) -> None: ...


async def end_half_sent(connection: Connection, seconds: float | None = None) -> list[int]:
    """End sessions whose client froze while it sent a statement, and return their process ids: they keep their locks,
    and their batches are folded again. Gives up after `seconds`.
    """
    return [row["pid"] for row in await connection.fetch(_END_HALF_SENT, timeout=seconds)]


class FactStore:
    """The fact tables in one schema. Only a live generation's also keeps the index of the log. `bounds` begin each of
    its transactions.
    """

    bounds: ClassVar[LiteralString] = END_IF_IDLE

    def __init__(self, schema: str, dead_letters: DeadLetterSink, is_indexing: bool = False) -> None:
        self._dead_letters = dead_letters
        self._is_indexing = is_indexing
        self._upserts = {table: table_sql.upsert(table, schema) for table in TABLES}

    async def commit(
        self,
        connection: Connection,
        folded: Sequence[Folded],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Written], Awaitable[None]] | None = None,
    ) -> Written:
        """One transaction: `first`, all rows, dead letters, `last`.

        If Postgres refuses the data, the batch is bisected inside savepoints until the faulty events are found.
        """
        try:
            async with connection.transaction():
                await connection.execute(self.bounds)
                await first()
                changed = await self._write(connection, combine(folded))
                return await self._complete(folded, (), changed, last)
        except Exception as error:
            if verdict_of(error) == "retry":
                raise
        async with connection.transaction():
            await connection.execute(self.bounds)
            await first()
            refusal = Refusal()
            changed = await self._write_bisecting(connection, folded, refusal)
            await self._write(connection, combine(refusal.as_folded()))
            return await self._complete(folded, refusal.letters, changed, last)

    async def _complete(
        self,
        folded: Sequence[Folded],
        refused: Sequence[Dead],
        changed: int,
        last: Callable[[Written], Awaitable[None]] | None,
    ) -> Written:
        """Dead letters are durable before the transaction that passes over their records."""
        letters = [*[letter for one in folded for letter in one.letters], *refused]
        await self._dead_letters.put(letters)
        dead = Counter([(letter.raw.topic, letter.raw.partition, letter.raw.offset) for letter in refused])
        left = [len(one.events) - dead[one.raw.topic, one.raw.partition, one.raw.offset] for one in folded]
        written = Written(letters, sum(left), changed, left.count(0))
        if last is not None:
            await last(written)
        return written

    async def _write_bisecting(self, connection: Connection, folded: Sequence[Folded], refusal: Refusal) -> int:
        if not folded:
            return 0
        try:
            async with connection.transaction():
                return await self._write(connection, combine(folded))
        except Exception as error:
            if verdict_of(error) == "retry":
                raise
            if len(folded) == 1:
                (one,) = folded
                if len(one.events) == 1 and not one.letters:
                    refusal.letters.append(refused_event(one, describe(error)))
                    return 0
                refusal.split.append(one)
                folded = one.split()
                if len(folded) == 1:
                    return await self._write_bisecting(connection, folded, refusal)
        middle = len(folded) // 2
        left = await self._write_bisecting(connection, folded[:middle], refusal)
        return left + await self._write_bisecting(connection, folded[middle:], refusal)

    async def _write(self, connection: Connection, changes: Changes) -> int:
        changed = 0
        for table, rows in changes.tables.items():
            try:
                for part in [rows] if changes.size <= STATEMENT_SIZE else portions(rows):
                    status = await connection.execute(self._upserts[table], *table.arrays(part))
                    changed += int(status.rpartition(" ")[2])
            except asyncpg.PostgresError as error:
                # Postgres names the table only where a constraint is at fault, and its values are not repeated.
                error.table_name = error.table_name or table.name
                raise
        if not self._is_indexing:
            return changed
        if changes.revived:
            await connection.execute(REVIVE, *zip(*changes.revived, strict=True))
        for first in range(0, len(changes.events), STATEMENT_EVENTS):
            part = changes.events[first : first + STATEMENT_EVENTS]
            await connection.execute(UPSERT_INDEX, *zip(*part, strict=True))
        return changed


class Store(FactStore):
    """The fact tables of the generation that live workers fold into, and the index of the log."""

    bounds = f"{GIVE_UP_WAITING}; {END_IF_IDLE}"

    def __init__(self, generation: int, dead_letters: DeadLetterSink) -> None:
        super().__init__(f"gen_{generation}", dead_letters, is_indexing=True)
        self.generation = generation

    async def commit_batch(self, connection: Connection, span: Span, folded: Sequence[Folded]) -> list[Dead]:
        """Write a live batch with its position. Returns every dead letter, those that Postgres refused included.

        Raises `PositionGap`, `GenerationMoved`, `TopicReplaced`, or what the driver raises where a retry helps.
        """
        return (await self.commit(connection, folded, partial(self._advance, connection, span))).letters

    async def try_batch(self, connection: Connection, span: Span, folded: Sequence[Folded]) -> None:
        """The same, taken back: rows must never be ahead of the position. Raises what `commit_batch` raises."""

        async def take_back(_: Written) -> None:
            # The checks of a commit.
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            raise TakenBack

        with suppress(TakenBack):
            await self.commit(connection, folded, partial(self._advance, connection, span), take_back)

    async def _advance(self, connection: Connection, span: Span) -> None:
        part = (span.topic, span.partition, span.start, span.end, span.topic_id)
        row = await connection.fetchrow(ADVANCE, self.generation, *part)
        if row is None or row["live"] != self.generation:
            raise GenerationMoved
        if row["is_other_log"]:
            raise TopicReplaced
        if not row["is_advanced"]:
            raise PositionGap(row["stored"])
