"""One pass over what remains of a replay: to its end, to a failure, or until it has to stop. Must not retry.

Never writes positions, never folds an offset at or above the live position, and gives way to live traffic.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, LiteralString

import asyncpg

from processors.fold import fold_record
from processors.outcome import Folded, RawRecord
from processors.store import Written
from replay import metrics
from replay.jobs import lease, outcomes
from replay.jobs.lease import Job
from replay.jobs.target_delivery import Sent, TargetDelivery
from replay.log.folding import LogFold, Sink
from replay.log.live_traffic import Lag, LiveTraffic
from replay.log.pacing import PacedReader, RateLimit, ReplayStopped, StopSignal
from replay.log.reader import LogReader
from replay.log.topic_ids import Logs
from replay.ports import Connection, NoteOutcomes, OpenTarget
from replay.selection.offsets import partition_of
from replay.selection.selection import Range
from replay.tables.folding import LiveFolding
from schemas.errors import RedriveError
from schemas.topics import TopicPartition

_JOIN: Final[LiteralString] = "SELECT live, state FROM redrive.join_replay($1)"
# Another process that runs the same replay, because our session was taken for dead, starts at the committed progress.
_ADVANCE: Final[LiteralString] = """
    UPDATE redrive.replay_progress
    SET next_offset = $5, done = done + $5 - $4, records = records + $6, events = events + $7,
        rows_changed = rows_changed + $8, dead = dead + $9, failed = failed + $10
    WHERE replay = $1 AND topic = $2 AND partition = $3 AND next_offset <= $4
"""


class OtherGeneration(RedriveError):
    """Another generation went live since this was planned; run the replay again."""


class TakenOver(RedriveError):
    """Another process has resumed this replay."""


class _Progress:
    """The steps of each batch's transaction: whether it may be, and that it was."""

    def __init__(self, job: Job, done: int) -> None:
        self._job = job
        self._done = done
        self._written: dict[TopicPartition, tuple[int, Written | Sent]] = {}
        self._is_waiting_said = False

    async def say_slow(self, connection: "Connection | asyncpg.Pool[asyncpg.Record]", reason: str | None) -> None:
        """The reason of a wait for a target stays until the target takes something: a new try is not news."""
        self._is_waiting_said = reason is None and self._job.target is not None
        if not self._is_waiting_said:
            metrics.replay_slowed(str(self._job.id), "live_traffic" if reason else None)
            await lease.slow(connection, self._job.id, reason)

    async def before(self, connection: Connection, part: Range) -> None:
        row = await connection.fetchrow(_JOIN, self._job.id)
        if self._job.target is not None:
            # A sent record can't be taken back: it counts, also for a replay that was paused in between.
            return
        if row is None or row["state"] != "running":
            raise ReplayStopped
        if row["live"] != self._job.generation:
            raise OtherGeneration

    async def after(self, connection: Connection, part: Range, records: Sequence[Any], outcome: Written | Sent) -> None:
        folded = (0, 0, 0) if isinstance(outcome, Sent) else (outcome.events, outcome.rows_changed, outcome.dead)
        failed = outcome.failed if isinstance(outcome, Sent) else 0
        place = (part.topic, part.partition)
        status = await connection.execute(
            _ADVANCE, self._job.id, *place, part.start, part.end, len(records), *folded, failed
        )
        if status != "UPDATE 1":
            raise TakenOver
        if records and self._is_waiting_said:
            self._is_waiting_said = False
            metrics.replay_slowed(str(self._job.id), None)
            await lease.slow(connection, self._job.id, None)
        self._written[place] = (len(records), outcome)

    def committed(self, part: Range) -> None:
        """Count a committed part."""
        records, outcome = self._written.pop(partition_of(part), (0, None))
        if outcome is not None:
            self._done += len(part)
            metrics.batch_redriven(str(self._job.id), records, outcome, self._done / self._job.plan.offsets)


class _Planned:
    """The log, for as long as it is the one of the plan."""

    def __init__(self, reader: LogReader, logs: Logs) -> None:
        self._reader = reader
        self._logs = logs

    def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        return self._reader.read(ranges, self._logs)


@dataclass(frozen=True, slots=True)
class ReplayRunner:
    """Runs replays over the log, into the projections or to their targets."""

    open_reader: Callable[[], LogReader]
    open_target: OpenTarget
    note_outcomes: NoteOutcomes = outcomes.note

    async def redrive(self, job: Job, pool: "asyncpg.Pool[asyncpg.Record]", stop: StopSignal) -> None:
        """Read the rest of a replay. Raises `ReplayStopped` when asked to stop, `RecordsGone`, and the errors of the
        log, the database and the target.
        """
        matcher = job.plan.matcher

        async def is_running(connection: Connection) -> bool:
            return await lease.is_running(connection, job.id)

        def is_wanted(record: RawRecord, folded: Folded) -> bool:
            return matcher.is_selected(record, lambda _: folded)

        def is_wanted_raw(record: RawRecord, _: RawRecord) -> bool:
            return matcher.is_selected(record, fold_record)

        async with AsyncExitStack() as open_:
            sink: Sink = LiveFolding(job.generation)
            most = None
            # Before the reader: a Kafka client that is stopped as soon as it was started takes itself for cancelled.
            if job.target is not None:
                target = await open_.enter_async_context(self.open_target(job.target, job.id))
                sink = TargetDelivery(target, self.note_outcomes, job.id, is_running)
                most = target.portion
            reader = await open_.enter_async_context(self.open_reader())
            async with pool.acquire() as connection:
                ranges, logs, done = await lease.remaining(connection, job)
            progress = _Progress(job, done)
            # The cause of a wait may be gone: the first look reports it.
            live = LiveTraffic(Lag(pool, reader.ends).read, partial(progress.say_slow, pool), stop.sleep, noted="")
            rate = RateLimit(job.rate, stop.sleep, most)
            paced = PacedReader(
                _Planned(reader, logs), lambda record: matcher.holds(record) is not False, rate, live, stop
            )
            has_types = any(one.types for one in job.plan.selection.choices)
            by_events = is_wanted_raw if job.target is not None else is_wanted
            fold = LogFold(pool, sink, progress, progress.committed, by_events if has_types else None)
            await fold.run(paced, ranges)
        if stop.is_set:
            raise ReplayStopped
