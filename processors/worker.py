"""The fold of live batches: decode, commit with the position, rewind on a gap, retry while the database is away.

Several partitions are folded at once: while Postgres works on one batch, the next is decoded. Acknowledges nothing
itself: the caller acknowledges a batch when `handle` returns.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, LiteralString
from uuid import UUID

import asyncpg
from faust.types import TP
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from processors import metrics
from processors.failures import RETRYABLE
from processors.fold import fold_record
from processors.isolation import Part, Remainder, Tables
from processors.outcome import Folded, RawRecord
from processors.partition_state import Batch, Extent, Start
from processors.positions import NOTHING_FOLDED, REFOLD_FROM, StoredPosition, find_starts, read_stored, unknown_records
from processors.projections import versions
from processors.store import (
    LIVE_GENERATION,
    Connection,
    DeadLetterSink,
    GenerationMoved,
    PositionGap,
    Store,
    TopicReplaced,
    end_half_sent,
)
from schemas.errors import Unavailable

NOTE_VERSIONS: Final[LiteralString] = "SELECT redrive.note_versions($1, $2, $3)"

FAILURE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0
PORTION_EVENTS: Final = 64
HOLDS_UP_ONE: Final = (Unavailable, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
"""Failures of one batch: the database itself answers."""

Rewind = Callable[[Mapping[TP, Start]], Awaitable[None]]
PATIENCE: Final = 6
"""The number of checks that a partition may show no progress while others move."""


class Worker:
    """One worker's part of the fold. `is_database_up` is for its readiness."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", dead_letters: DeadLetterSink) -> None:
        self._pool = pool
        self._dead_letters = dead_letters
        self._store: Store | None = None
        self._expected: dict[TP, int] = {}
        self._read_of: dict[TP, UUID | None] = {}
        """Kafka's id of the topic that each partition is read of."""
        self._stored: dict[TP, StoredPosition] | None = None
        """The stored positions of all partitions, as last read."""
        self._extents: dict[TP, Extent] = {}
        """The extents of all partitions: a topic that was created again does not tell how far the old one went."""
        self._past: set[TP] = set()
        """Partitions whose log ended before the position when they were last looked at."""
        self._folding: set[TP] = set()
        self._seen: dict[TP, tuple[int, int]] = {}
        self._still: dict[TP, int] = {}
        """Looks in a row at which a partition had not moved."""
        self._tables = Tables()
        # A batch is decoded once it may be written, so that decoded ones, which are large, are never many. One
        # connection is left for the positions.
        self._slots = asyncio.Semaphore(max(pool.get_max_size() - 1, 1))
        # Decoding is the event loop's own work: two batches at once would only end later, both of them.
        self._decoding = asyncio.Lock()
        self.is_database_up = True

    async def positions(self, extents: Mapping[TP, Extent], is_confirmed: bool) -> Mapping[TP, Start]:
        """Where to read each partition from; waits for the database as long as it takes.

        A partition of which the stored position can't be of that log is left out until the caller has asked for the
        extent again (`is_confirmed`).
        """
        async for attempt in self._attempts():
            with attempt:
                starts = await self._find_starts(extents, is_confirmed)
        self._note_success(None)
        self._expected.update({tp: start.offset for tp, start in starts.items()})
        self._read_of.update({tp: start.topic_id for tp, start in starts.items()})
        return starts

    def forget(self) -> None:
        """On a new assignment: what was read under the old one says nothing any more."""
        self._expected = {}
        self._read_of = {}

    async def _find_starts(self, extents: Mapping[TP, Extent], is_confirmed: bool) -> dict[TP, Start]:
        async with self._pool.acquire() as connection:
            generation = await connection.fetchval(LIVE_GENERATION)
            before = self._store.generation if self._store else generation
            if self._store is None or before != generation:
                # Before the first commit: which code a generation was folded by must never look better than it was.
                said = versions()
                await connection.execute(NOTE_VERSIONS, generation, list(said), list(said.values()))
                self._store = Store(generation, self._dead_letters)
            if before != generation:
                metrics.generation_moved(generation)
            return await find_starts(connection, generation, extents, is_confirmed, self._extents)

    async def unknown_records(self, records: Mapping[TP, RawRecord]) -> set[TP]:
        """The partitions whose record is not the one that was folded at its offset."""
        async for attempt in self._attempts():
            with attempt:
                async with self._pool.acquire() as connection:
                    unknown = await unknown_records(connection, records)
        return unknown

    async def refold(self, tp: TP, first: int, position: int, extent: Extent) -> None:
        """Move the position back to the log's start: the records [first, position) are not those that were folded."""
        async for attempt in self._attempts():
            with attempt:
                async with self._pool.acquire() as connection:
                    generation = await connection.fetchval(LIVE_GENERATION)
                    moved = await connection.fetchval(REFOLD_FROM, generation, *tp, first, position, extent.start)
        if moved is not None:
            metrics.log_restored(*tp, first, position)

    def last_positions(self, extents: Mapping[TP, Extent], partitions: Collection[TP]) -> dict[TP, int]:
        """The positions of these partitions at the last look, if the log goes at least that far."""
        stored = self._stored or {}
        known = {tp: (stored[tp], extents[tp]) for tp in partitions if tp in stored and tp in extents}
        return {
            tp: one.next_offset for tp, (one, extent) in known.items() if one.is_of(extent) and not one.is_past(extent)
        }

    async def look(self, extents: Mapping[TP, Extent]) -> bool:
        """Note how far the rows are behind the log in each partition, whoever folds it. Returns True if the reader has
        to seek again: the topic was created again, a stored position is behind what was committed (the database was
        restored to an older backup) or past the log's end (Kafka was).

        While the database is away, the positions are those that were read last; raises what it raises.
        """
        committed, read_of, before = dict(self._expected), dict(self._read_of), self._stored or {}
        try:
            await self._read_stored()
        finally:
            if self._stored is not None:
                lag = {tp: self._stored.get(tp, NOTHING_FOLDED).lag(extent) for tp, extent in extents.items()}
                metrics.note_lag(lag)
        stored = self._stored or {}
        ids = {tp.topic: one.topic_id for tp, one in stored.items() if one.topic_id is not None}
        self._extents.update(
            {tp: one for tp, one in extents.items() if one.topic_id in (None, ids.get(tp.topic, one.topic_id))}
        )
        # The positions of the look before are older than these extents, and no position was ever past the end of its
        # log. Two looks: a broker that has just become the leader may say less for a moment.
        past = {tp for tp in read_of.keys() & extents.keys() if before.get(tp, NOTHING_FOLDED).is_past(extents[tp])}
        self._past, is_shorter = past, bool(past & self._past)
        if is_shorter:
            return True
        return any(stored.get(tp, NOTHING_FOLDED).next_offset < position for tp, position in committed.items()) or any(
            extents[tp].topic_id not in (None, topic_id) for tp, topic_id in read_of.items() if tp in extents
        )

    async def _read_stored(self) -> None:
        async with self._pool.acquire(timeout=LOOK_SECONDS) as connection:
            generation = await connection.fetchval(LIVE_GENERATION, timeout=LOOK_SECONDS)
            self._stored = await read_stored(connection, generation, LOOK_SECONDS)
            for pid in await end_half_sent(connection, LOOK_SECONDS):
                metrics.session_ended(pid)

    def has_stalled(self, log_ends: Mapping[TP, int]) -> bool:
        """True if a partition had records to fold at the last call, and got none since, with nothing under way.

        Faust drops its fetched records when partitions are paused or assigned again; if nothing follows on the
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

    async def handle(self, batch: Batch, rewind: Rewind, reseek: Callable[[], None]) -> None:
        """Fold one batch; returns when its rows and its position are committed, or when it is to be read again."""
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
        except (GenerationMoved, TopicReplaced):
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
        rest = Remainder(batch, self._tables)
        async for attempt in self._attempts(batch):
            with attempt:
                while (part := rest.next) is not None:
                    if batch.reading.is_over:
                        return
                    async with self._slots, self._pool.acquire() as connection:
                        await self._fold_on(connection, batch.tp, rest, part)
        self._note_success(batch.tp)

    def _note_success(self, tp: TP | None) -> None:
        self.is_database_up = True
        metrics.database_took(tp)

    async def _fold_on(self, connection: Connection, tp: TP, rest: Remainder, part: Part) -> None:
        if self._store is None:
            raise GenerationMoved
        started = time.perf_counter()
        folded: Sequence[Folded] = await self._decode(part.records)
        try:
            folded = await rest.without_poison(self._store, connection, part, folded)
            letters = await self._store.commit_batch(connection, part.span, folded)
        except Exception as error:
            rest.failed(connection, error)
            raise
        rest.committed(folded)
        self._expected[tp] = max(part.span.end, self._expected.get(tp, 0))
        metrics.batch_folded(folded, letters, time.perf_counter() - started)
        metrics.events_dead(letters)

    async def _decode(self, records: Sequence[RawRecord]) -> list[Folded]:
        folded: list[Folded] = []
        async with self._decoding:
            events = 0
            for record in records:
                folded.append(one := fold_record(record))
                events += len(one.events) + len(one.letters)
                if events >= PORTION_EVENTS:
                    # Let the transactions under way hear Postgres's answers.
                    await asyncio.sleep(0)
                    events = 0
        return folded

    async def _rewind_to(self, batch: Batch, stored: int, rewind: Rewind) -> None:
        """Read a partition again from its stored position; records fetched before belong to a reading that is over."""
        self._expected[batch.tp] = stored
        metrics.batch_rewound(batch.tp.topic, batch.tp.partition, batch.start, stored)
        await rewind({batch.tp: Start(stored, batch.reading.topic_id)})

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
