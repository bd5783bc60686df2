"""The fold of live batches: decode, commit with the position, rewind on a gap, retry while the database is away.

Several partitions are folded at once: while Postgres works on one batch, the next is decoded. Acknowledges nothing
itself: the caller acknowledges a batch when `handle` returns.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, LiteralString

import asyncpg
from faust.types import TP
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from processors import metrics
from processors.failures import RETRYABLE
from processors.fold import fold_record
from processors.outcome import Folded, RawRecord
from processors.projections import versions
from processors.reading import Batch
from processors.store import Connection, DeadLetters, GenerationMoved, PositionGap, Span, Store
from schemas.errors import Unavailable

LIVE_GENERATION: Final[LiteralString] = "SELECT live FROM redrive.generation"
NOTE_VERSIONS: Final[LiteralString] = "SELECT redrive.note_versions($1, $2, $3)"
POSITIONS: Final[LiteralString] = "SELECT topic, partition, next_offset FROM redrive.positions WHERE generation = $1"
# A range is noted once; the position moves past it in the same transaction, so it is never skipped in silence.
LOST: Final[LiteralString] = """
    SELECT topic, partition, sum(end_offset - first_offset)::bigint AS records FROM redrive.lost_ranges
    WHERE generation = $1 GROUP BY topic, partition
"""
LOSE_RANGE: Final[LiteralString] = """
    WITH lost AS (
        INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (generation, topic, partition, first_offset)
        DO UPDATE SET end_offset = greatest(lost_ranges.end_offset, EXCLUDED.end_offset)
    )
    INSERT INTO redrive.positions AS p VALUES ($1, $2, $3, $5)
    ON CONFLICT (generation, topic, partition) DO UPDATE SET next_offset = greatest(p.next_offset, EXCLUDED.next_offset)
"""

FAILURE_SECONDS: Final = 1.0
PORTION_RECORDS: Final = 64
HOLDS_UP_ONE: Final = (Unavailable, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
"""Failures of one batch: the database itself answers."""

# The log ends before the position: it lost its tail, or the topic was made anew. Which offsets are new can't be told,
# so all of it is folded again: merges make that harmless, and nothing is skipped.
RESET: Final[LiteralString] = """
    WITH moved AS (
        UPDATE redrive.positions SET next_offset = $6
        WHERE generation = $1 AND topic = $2 AND partition = $3 AND next_offset = $5
        RETURNING generation, topic, partition
    )
    INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset)
    SELECT generation, topic, partition, $4, $5 FROM moved
    ON CONFLICT (generation, topic, partition, first_offset)
    DO UPDATE SET end_offset = greatest(lost_ranges.end_offset, EXCLUDED.end_offset)
    RETURNING end_offset
"""

Rewind = Callable[[Mapping[TP, int]], Awaitable[None]]
PATIENCE: Final = 6
"""Looks at a partition that stands still while others move."""


class Worker:
    """One worker's part of the fold. `is_database_up` is for its readiness."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", dead_letters: DeadLetters) -> None:
        self._pool = pool
        self._dead_letters = dead_letters
        self._store: Store | None = None
        self._expected: dict[TP, int] = {}
        self._folding: set[TP] = set()
        self._seen: dict[TP, tuple[int, int]] = {}
        self._still: dict[TP, int] = {}
        """Looks in a row at which a partition had not moved."""
        # A batch is decoded once it may be written, so that decoded ones, which are large, are never many. One
        # connection is left for the positions.
        self._slots = asyncio.Semaphore(max(pool.get_max_size() - 1, 1))
        # Decoding is the event loop's own work: two batches at once would only end later, both of them.
        self._decoding = asyncio.Lock()
        self.is_database_up = True

    async def positions(self, bounds: Mapping[TP, tuple[int, int]], is_confirmed: bool) -> Mapping[TP, int]:
        """Where to read each partition from; waits for the database as long as it takes.

        A partition whose stored position is past the log's end is left out until the caller has asked for the end
        again (`is_confirmed`).
        """
        async for attempt in self._attempts():
            with attempt:
                positions = await self._read_positions(bounds, is_confirmed)
        self.is_database_up = True
        self._expected.update(positions)
        self.note_lag({tp: log_end for tp, (_, log_end) in bounds.items()})
        return positions

    def forget(self) -> None:
        """On a new assignment: what was read under the old one says nothing any more."""
        self._expected = {}

    async def _read_positions(self, bounds: Mapping[TP, tuple[int, int]], is_confirmed: bool) -> dict[TP, int]:
        async with self._pool.acquire() as connection:
            generation = await connection.fetchval(LIVE_GENERATION)
            if self._store is None or self._store.generation != generation:
                # Before the first commit: which code a generation was folded by must never look better than it was.
                said = versions()
                await connection.execute(NOTE_VERSIONS, generation, list(said), list(said.values()))
                self._store = Store(generation, self._dead_letters)
                metrics.generation_moved(generation)
            rows = await connection.fetch(POSITIONS, generation)
            stored = {TP(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            positions = {}
            for tp, (log_start, log_end) in bounds.items():
                position = stored.get(tp, 0)
                if position < log_start:
                    await connection.execute(LOSE_RANGE, generation, tp.topic, tp.partition, position, log_start)
                    metrics.range_lost(tp.topic, tp.partition, position, log_start)
                    position = log_start
                elif position > log_end:
                    if not is_confirmed:
                        # Another worker may have moved on since the log's end was asked.
                        continue
                    lost = (generation, tp.topic, tp.partition, log_end, position)
                    if await connection.fetchval(RESET, *lost, log_start) is None:
                        # Somebody else moved it meanwhile: what it is now is to be asked again.
                        continue
                    metrics.range_lost(tp.topic, tp.partition, log_end, position)
                    position = log_start
                positions[tp] = position
            for row in await connection.fetch(LOST, generation):
                metrics.LOST_RECORDS.labels(row["topic"], row["partition"]).set(row["records"])
        return positions

    def note_lag(self, log_ends: Mapping[TP, int]) -> None:
        """How far the rows are behind the log, for the partitions that this worker holds and for no others."""
        metrics.LAG.clear()
        for tp, log_end in log_ends.items():
            if tp in self._expected:
                metrics.LAG.labels(tp.topic, tp.partition).set(max(log_end - self._expected[tp], 0))

    def has_stalled(self, log_ends: Mapping[TP, int]) -> bool:
        """Whether a partition had records to fold when this was last asked, and got none since, with nothing under way.

        Faust drops what it has fetched when partitions are paused or dealt out anew; if nothing follows on the
        partition, no gap ever shows.
        """
        before = self._seen
        self._seen = {tp: (self._expected[tp], end) for tp, end in log_ends.items() if tp in self._expected}
        known = {tp: position for tp, (position, _) in self._seen.items() if tp in before}
        still = {
            tp: self._still.get(tp, 0) + 1
            for tp, position in known.items()
            if before[tp][0] == position < before[tp][1] and tp not in self._folding
        }
        # While others move, it may only be waiting for its turn to be fetched.
        patience = PATIENCE if any(before[tp][0] != position for tp, position in known.items()) else 1
        has_stalled = any(looks >= patience for looks in still.values())
        self._still = {} if has_stalled else still
        return has_stalled

    async def has_fallen_back(self) -> bool:
        """Whether a stored position is behind what we committed: the database was restored to an older backup."""
        committed = dict(self._expected)
        if self._store is None or not committed:
            return False
        async with self._pool.acquire(timeout=5) as connection:
            rows = await connection.fetch(POSITIONS, self._store.generation, timeout=5)
        stored = {TP(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        return any(stored.get(tp, 0) < position for tp, position in committed.items())

    async def handle(self, batch: Batch, rewind: Rewind, reseek: Callable[[], None]) -> None:
        """Fold one batch; returns when its rows and its position stand, or when it is to be read again."""
        expected = self._expected.get(batch.tp)
        if expected is None or batch.reading.is_over:
            # Fetched before the positions were known, or before a rewind; the same records come again.
            return
        if batch.start > expected:
            await self._rewind_to(batch, expected, rewind)
            return
        self._folding.add(batch.tp)
        try:
            await self._fold(batch)
        except PositionGap as gap:
            await self._rewind_to(batch, gap.stored, rewind)
        except GenerationMoved:
            self.forget()
            reseek()
        except Exception as error:  # noqa: BLE001 - the outermost loop: a bug of ours must not skip a batch
            metrics.fold_failed(error)
            await asyncio.sleep(FAILURE_SECONDS)
            await self._rewind_to(batch, expected, rewind)
        finally:
            self._folding.discard(batch.tp)
            batch.reading.is_held = False

    async def _fold(self, batch: Batch) -> None:
        """For ever, with back-off, until it is written or somebody else's: an outage never gives a record up."""
        async for attempt in self._attempts(batch):
            with attempt:
                if batch.reading.is_over:
                    return
                async with self._slots, self._pool.acquire() as connection:
                    await self._fold_on(connection, batch)
        self.is_database_up = True

    async def _fold_on(self, connection: Connection, batch: Batch) -> None:
        if self._store is None:
            raise GenerationMoved
        started = time.perf_counter()
        folded = await self._decode(batch.records)
        span = Span(batch.tp.topic, batch.tp.partition, batch.start, batch.end)
        letters = await self._store.commit_batch(connection, span, folded)
        self._expected[batch.tp] = max(batch.end, self._expected.get(batch.tp, 0))
        metrics.batch_folded(folded, letters, time.perf_counter() - started)
        for letter in letters:
            metrics.event_dead(letter)

    async def _decode(self, records: Sequence[RawRecord]) -> list[Folded]:
        folded: list[Folded] = []
        async with self._decoding:
            for first in range(0, len(records), PORTION_RECORDS):
                folded += [fold_record(record) for record in records[first : first + PORTION_RECORDS]]
                # Let the transactions under way hear Postgres's answers.
                await asyncio.sleep(0)
        return folded

    async def _rewind_to(self, batch: Batch, stored: int, rewind: Rewind) -> None:
        """Read a partition again from where its rows stand; what was fetched before is of a reading that is over."""
        self._expected[batch.tp] = stored
        metrics.batch_rewound(batch.tp.topic, batch.tp.partition, batch.start, stored)
        await rewind({batch.tp: stored})

    def _attempts(self, batch: Batch | None = None) -> AsyncRetrying:
        def note_failure(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if error is not None:
                self.is_database_up = isinstance(error, HOLDS_UP_ONE)
                if batch is not None:
                    batch.reading.is_held = self.is_database_up
                metrics.database_failed(error, batch.tp if batch else None)

        return AsyncRetrying(
            retry=retry_if_exception_type((*RETRYABLE, Unavailable)),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            before_sleep=note_failure,
        )
