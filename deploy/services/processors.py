"""The fold as a process: a Faust app between the log and Postgres."""

import asyncio
import contextlib
import faulthandler
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
from prometheus_client import CollectorRegistry

from deploy.connections import open_pool
from deploy.event_loop import tune_garbage_collection
from deploy.fold_groups import INSTALLATION, find_groups, place_of, warn_of_others
from deploy.migrate import Pool
from deploy.reload import Control, in_state
from deploy.service import Signals, read_again, reload_refused, wait_for, wait_for_signal
from deploy.services.checks import BrokerCheck, DatabaseCheck, serve_health
from deploy.topic_ids import TopicIds
from deploy.topics import Topics
from deploy.wiring import Runtime
from processors.app import TopicSubscription, create_app
from processors.dead_letters import KafkaDeadLetters
from processors.failures import RETRYABLE
from processors.faust_transport import BatchApp
from processors.metrics import topics_missing
from processors.worker import Worker
from schemas.errors import Misconfigured, Unavailable
from schemas.masking import describe
from schemas.source_state import SourceState
from schemas.topics import OPERATOR, fold_group, is_folded, topic_of

log: Final = logging.getLogger("redrive.processors")
DEPENDENCY_SECONDS: Final = 30.0
ASK_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 5.0
"""Between two looks for topics that are missing, or new."""

DRAIN_SECONDS: Final = 20.0
CRASH_CHECK_SECONDS: Final = 1.0
EXIT_UNDRAINED: Final = 1


async def run_processors(runtime: Runtime) -> None:
    """One process, until SIGTERM. SIGHUP reads the configuration again, and with it which topics there are."""
    await run_processors_process(runtime, number=0, shared=None)


async def run_processors_process(runtime: Runtime, number: int, shared: CollectorRegistry | None) -> None:
    """The process of that number, from 0. With `shared`, it has siblings, on its port and on its page of metrics."""
    end = partial(os._exit, EXIT_UNDRAINED)
    async with ProcessorsService.open(runtime, Signals.of_process(), number, shared, end) as service:
        await service.work()


class ProcessorsService:
    """One worker, and the Faust app that it works in: a new app for every new set of topics."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        runtime: Runtime,
        signals: Signals,
        number: int = 0,
        shared: CollectorRegistry | None = None,
        give_up: Callable[[], object] = faulthandler.dump_traceback,
    ) -> "AsyncIterator[ProcessorsService]":
        """It serves its health; `work` is what it does then. Drained at the end, or `give_up` is called."""
        settings = runtime.settings
        service = cls(runtime, await open_pool(settings, size=4), signals, number, give_up)
        async with contextlib.AsyncExitStack() as stack:
            host, port = settings.processors_host, settings.processors_port
            runner = await serve_health(service.readiness, host, port, "PROCESSORS_PORT", shared, service.details)
            stack.push_async_callback(runner.cleanup)
            stack.push_async_callback(service.drain)
            yield service

    def __init__(
        self, runtime: Runtime, pool: Pool, signals: Signals, number: int, give_up: Callable[[], object]
    ) -> None:
        self._folder = runtime.settings.data / f"faust-{number}"
        self._runtime = runtime
        self._cluster = cluster = runtime.cluster()
        self._pool = pool
        self._stop, self._reload = signals
        self._give_up = give_up
        self._broker = BrokerCheck(cluster)
        self._database = DatabaseCheck(pool)
        self._dead_letters = KafkaDeadLetters(cluster)
        self.worker = Worker(pool, self._dead_letters)
        self._app: BatchApp | None = None
        self._control = Control(cluster)
        self._following: asyncio.Task[None] | None = None
        self._topic_ids = TopicIds(cluster)
        self._installation: UUID | None = None
        self._topics: list[str] = []
        self._missing: list[str] = []

    def details(self) -> dict[str, Any]:
        """Facts on which readiness does not depend: the sources whose topics exist are folded."""
        at_rest = self._app.unreadable.places if self._app is not None else {}
        unreadable = [f"{tp.topic}/{tp.partition}/{offset}" for tp, offset in sorted(at_rest.items())]
        return {"missing_topics": self._missing, "unreadable_records": unreadable}

    async def readiness(self) -> dict[str, bool]:
        # Side by side: each may take as long as a page may.
        broker, (database, schema) = await asyncio.gather(self._broker.is_up(), self._database.ask())
        return {
            "broker": broker,
            "database": database and self.worker.is_database_up,
            "schema": schema,
            "assignment": self._app is not None and self._app.is_reading,
        }

    async def work(self) -> None:
        """Fold every topic there is, until it is time to stop."""
        # Without its database it would not know whose partitions it folds.
        await wait_for(self._learn_installation, float("inf"), self._stop)
        for step in (self._dead_letters.start, self._hear_operators, self._look_for_topics):
            await wait_for(step, DEPENDENCY_SECONDS, self._stop)
        await self._warn_of_others()
        self._following = asyncio.create_task(self._control.follow(self._obey))
        while not self._stop.is_set():
            await self._fold_until_told()

    async def drain(self) -> None:
        with self._last_resort():
            if self._following is not None:
                self._following.cancel()
            await self._dead_letters.stop()
            await self._control.stop()
            await self._topic_ids.stop()
            self._pool.terminate()

    async def _hear_operators(self) -> None:
        await self._control.start()
        await self._control.catch_up()

    async def _learn_installation(self) -> None:
        """Raises `Unavailable`, also while the schema is older than this version."""
        try:
            async with self._pool.acquire(timeout=ASK_SECONDS) as connection:
                self._installation = await connection.fetchval(INSTALLATION, timeout=ASK_SECONDS)
        except asyncpg.UndefinedTableError as error:
            raise Unavailable("the schema is behind: run `redrive migrate --apply`") from error
        except RETRYABLE as error:
            raise Unavailable(f"Postgres does not answer: {describe(error)}") from error

    async def _warn_of_others(self) -> None:
        """It is allowed, and may not be meant; nothing waits for it to be known."""
        if self._installation is None:
            return
        try:
            groups = await find_groups(self._cluster)
        except Unavailable as error:
            log.warning("%s", error, extra={"action": "start", "outcome": "unknown", "code": error.code})
            return
        for text in warn_of_others(groups, self._installation, self._topics, place_of(self._runtime.settings.data)):
            log.warning("%s", text, extra={"action": "start", "outcome": "shared", "code": "others_fold"})

    async def _look_for_topics(self) -> None:
        """Those of the configured sources, those that a source no longer configured left behind, and the corrections.

        Raises `Unavailable`, also while there is none.
        """
        async with Topics(self._cluster) as topics:
            self._note_topics({name for name in await topics.names() if is_folded(name)})

    async def _look_for_missing(self) -> None:
        """The same of topics that are known, over a connection that is open. Raises `Unavailable`."""
        self._note_topics(set(await self._topic_ids(self._wanted | {*self._topics})))

    @property
    def _wanted(self) -> set[str]:
        return {OPERATOR, *(source.topic for source in self._runtime.sources.values())}

    def _note_topics(self, there: set[str]) -> None:
        missing = sorted(self._wanted - there)
        topics_missing(missing, self._missing)
        self._missing = missing
        if not there:
            raise Unavailable(f"topics are missing: {', '.join(missing)}; `redrive topics --apply` creates them")
        # One that was deleted stays subscribed: it is dealt out again once it is back.
        self._topics = sorted(there | {*self._topics})

    def _obey(self, states: Mapping[str, SourceState]) -> None:
        if self._app is not None:
            self._app.rest(frozenset(topic_of(name) for name in in_state(states, "paused")))

    async def _fold_until_told(self) -> None:
        """One app, until it is time to stop or there are other topics."""
        if self._installation is None:
            raise RuntimeError("work learns whose the installation is, first")
        place = place_of(self._runtime.settings.data)
        async with self.folding(TopicSubscription(self._topics, fold_group(self._installation), place)) as app:
            tune_garbage_collection()
            await self._until_told(app)

    @contextlib.asynccontextmanager
    async def folding(self, subscription: TopicSubscription) -> AsyncIterator[BatchApp]:
        """The worker, in an app that reads these topics."""
        app = self._app = create_app(self._cluster, subscription, self.worker, self._topic_ids, self._folder)
        self._obey(self._control.states)
        try:
            await app.start()
            yield app
        finally:
            with self._last_resort(), contextlib.suppress(TimeoutError):
                await asyncio.wait_for(app.stop(), DRAIN_SECONDS)

    async def _until_told(self, app: BatchApp) -> None:
        """Faust stops itself when a part of it crashes; the supervisor then starts a new process."""
        clock = asyncio.get_running_loop().time
        told, look_at = asyncio.create_task(wait_for_signal(self._stop, self._reload)), clock() + LOOK_SECONDS
        before = self._topics
        while self._topics == before:
            await asyncio.wait({told}, timeout=CRASH_CHECK_SECONDS)
            if app.crashed or app.should_stop:
                told.cancel()
                reason = app.crash_reason
                raise Unavailable(f"the worker crashed: {describe(reason) if reason else 'nobody said why'}")
            if told.done():
                if not told.result():
                    return
                await self._use_new_configuration()
                told = asyncio.create_task(wait_for_signal(self._stop, self._reload))
            elif clock() >= look_at:
                # While Kafka does not say, it stays as it is.
                with contextlib.suppress(Unavailable):
                    await self._look_for_missing()
                look_at = clock() + LOOK_SECONDS
        told.cancel()

    async def _use_new_configuration(self) -> None:
        """Refuse an invalid configuration, and keep folding."""
        runtime = read_again()
        if runtime is None:
            return
        before, self._runtime = self._runtime, runtime
        try:
            await self._look_for_topics()
        except (Misconfigured, Unavailable) as error:
            self._runtime = before
            reload_refused(error)

    @contextlib.contextmanager
    def _last_resort(self) -> Iterator[None]:
        """Faust joins its threads in the event loop, and with a broker that hangs they don't end: nothing in the loop
        can then stop the wait. Everything that counts is committed with its position, so the process may simply end.
        """
        watchdog = threading.Timer(DRAIN_SECONDS * 1.25, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
