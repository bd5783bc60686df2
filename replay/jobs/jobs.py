"""Runs the replays of the ledger, one process each at a time, and takes over those whose process has gone.

Must not plan one. An outage of the database, the log or a target is waited for; the entry says so.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from replay import metrics
from replay.jobs import lease
from replay.jobs.lease import Job
from replay.jobs.runner import ReplayRunner, TakenOver
from replay.log.folding import LANES
from replay.log.pacing import ReplayStopped, StopSignal
from replay.ports import Connection
from schemas.errors import InvalidSelection, Unavailable, code_of
from schemas.masking import describe
from schemas.outage import Outage

log: Final = logging.getLogger("redrive.console")
POLL_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 0.5
PARTING_SECONDS: Final = 5.0
"""For a batch under way at a target, once the replay was paused: what became of it is worth waiting for."""

MAX_JOBS: Final = 4
"""The limit of one process: a slow job must not hold up the rest."""

PASSING: Final = (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError, OSError, TimeoutError)


def is_passing(error: BaseException) -> bool:
    """True if time or an operator can fix it, so that a retry helps."""
    return isinstance(error, PASSING) and not isinstance(error, OffsetOutOfRangeError)


class Jobs:
    """Those of one process. `connect` opens a connection that nothing else uses."""

    def __init__(
        self,
        connect: Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]],
        open_pool: Callable[[int], Awaitable["asyncpg.Pool[asyncpg.Record]"]],
        runner: ReplayRunner,
    ) -> None:
        self._connect = connect
        self._open_pool = open_pool
        self._runner = runner
        self._tasks: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._outage = Outage()

    async def serve(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        """Until cancelled: other processes then resume the running replays from where they are."""
        try:
            while True:
                await self._look(pool)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            left = list(self._tasks.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _look(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        try:
            # A session of another login is that login's to end.
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                for replay, runner in await lease.end_frozen(pool):
                    metrics.replay_runner_frozen(str(replay), runner)
            for replay in await lease.free(pool):
                if replay not in self._tasks and len(self._tasks) < MAX_JOBS:
                    self._tasks[replay] = asyncio.create_task(self._take_quietly(replay))
        except PASSING as error:
            # Readiness says so; the next look may find it there again.
            log.debug("the ledger can't be read: %s", describe(error), extra={"action": "replay"})
        except Exception:  # noqa: BLE001 - the outermost loop
            metrics.replay_failed("look")

    async def _take_quietly(self, replay: uuid.UUID) -> None:
        try:
            await self.take(replay)
        except PASSING as error:
            if self._outage.begins(time.monotonic(), str(replay)):
                line = {"action": "replay", "outcome": "let_go", "code": code_of(error, "unavailable")}
                log.warning(
                    "this process stopped working on a replay: %s",
                    describe(error),
                    extra={**line, "replay": str(replay)},
                )
        except Exception:  # noqa: BLE001 - the outermost of a job
            metrics.replay_failed(str(replay))
        finally:
            del self._tasks[replay]

    async def take(self, replay: uuid.UUID) -> None:
        """Run it to its end, or until it is paused or cancelled; at once if it is somebody else's.

        Raises what the database does where it is away: then nobody holds the replay.
        """
        connection = await self._connect()
        try:
            job = await lease.hold(connection, replay)
            seconds = self._outage.ends(time.monotonic(), str(replay))
            if seconds is not None:
                line = {"action": "replay", "outcome": "back", "replay": str(replay), "seconds": round(seconds, 1)}
                log.info("the dependency of a waiting replay is back", extra=line)
            if job is not None:
                await self._run(connection, job)
        except InvalidSelection as error:
            # Other code wrote its row: whoever takes it up finds the same.
            metrics.replay_given_up(str(replay), error)
            await lease.finish(connection, replay, "failed", describe(error))
        finally:
            with contextlib.suppress(*PASSING):
                await connection.close(timeout=2)

    async def _run(self, connection: Connection, job: Job) -> None:
        """While the session that holds it lives: without that, somebody else may be at work already."""
        metrics.replay_begun(str(job.id))
        stop = StopSignal()
        watching = asyncio.create_task(self._watch(connection, job.id))
        running = asyncio.create_task(self._redrive(job, stop))
        try:
            await asyncio.wait({watching, running}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                stop.set()
                await asyncio.wait({running}, timeout=PARTING_SECONDS)
        finally:
            for task in (watching, running):
                task.cancel()
            await asyncio.gather(watching, running, return_exceptions=True)
        await self._conclude(connection, job, running)

    async def _watch(self, connection: Connection, replay: uuid.UUID) -> None:
        """Ends when the replay is no longer to be run; raises when the session has gone."""
        # Another process pauses it.
        while await lease.is_still_running(connection, replay):  # noqa: ASYNC110
            await asyncio.sleep(WATCH_SECONDS)

    async def _conclude(self, connection: Connection, job: Job, running: "asyncio.Task[None]") -> None:
        error = None if running.cancelled() else running.exception()
        if running.cancelled() or isinstance(error, (ReplayStopped, TakenOver)):
            metrics.replay_let_go(str(job.id))
            return
        if error is None:
            await lease.finish(connection, job.id, "done")
            metrics.replay_done(str(job.id))
            return
        metrics.replay_given_up(str(job.id), error)
        await lease.finish(connection, job.id, "failed", describe(error))

    async def _redrive(self, job: Job, stop: StopSignal) -> None:
        pool = await self._open_pool(LANES + 2)
        try:
            async for attempt in self._attempts(job, pool, stop):
                with attempt:
                    await self._runner.redrive(job, pool, stop)
        finally:
            pool.terminate()

    def _attempts(self, job: Job, pool: "asyncpg.Pool[asyncpg.Record]", stop: StopSignal) -> AsyncRetrying:
        async def say_why(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            reason = f"waiting: {describe(error)}" if error else None
            metrics.replay_slowed(str(job.id), "waiting")
            # Where it is the database that is away, nobody can read it either.
            with contextlib.suppress(*PASSING):
                await lease.slow(pool, job.id, reason)

        return AsyncRetrying(
            retry=retry_if_exception(is_passing),
            wait=wait_random_exponential(multiplier=0.2, max=3),
            sleep=stop.sleep,
            before_sleep=say_why,
        )
