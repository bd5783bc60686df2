"""The ingress as a process: HTTP in front, the log behind, the spool beside, and what operators say in between."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from deploy.event_loop import tune_garbage_collection
from deploy.kafka import require_kafka
from deploy.open_files import connections_within
from deploy.reload import Control, in_state
from deploy.service import (
    Signals,
    listen,
    read_again,
    reload_refused,
    wait_for,
    wait_for_signal,
)
from deploy.services.checks import BrokerCheck
from deploy.topic_ids import TopicIds
from deploy.topics import Topics
from deploy.wiring import Runtime
from ingest.app import create_server
from ingest.append_or_spool import Storing
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.log_tail import KafkaLogTail
from ingest.dedupe.other_log import AckedEnds
from ingest.dedupe.peers import Gossip
from ingest.dedupe.table_lock import WindowHeld
from ingest.dedupe.window import DedupeWindow
from ingest.disabled_sources import LastHeard
from ingest.handler import Ingress
from ingest.http.limits import Limits
from ingest.log.event_log import EventLog
from ingest.log.producer import producer_factory
from ingest.outage_log import Story
from ingest.quarantine.quarantine import QuarantineWriter
from ingest.request_metrics import REQUESTS
from ingest.spool.drain import Drain
from ingest.spool.spool import Spool
from schemas.errors import Misconfigured, Unavailable
from schemas.source_state import SourceState
from schemas.topics import QUARANTINE

log: Final = logging.getLogger("redrive.ingest")
DEPENDENCY_SECONDS: Final = 30.0
"""How long a starting service without a spool waits for Kafka before it gives up with 69."""

DRAIN_SECONDS: Final = 20.0
PUBLISH_SECONDS: Final = 1.0
_TICK_RECORDS: Final = 500


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """Milliseconds since the epoch, and seconds that nobody can set."""

    now_ms: Callable[[], int] = _now_ms
    monotonic: Callable[[], float] = time.monotonic


_CLOCKS: Final = Clocks()


async def run_ingest(runtime: Runtime) -> None:
    """One process, until SIGTERM. SIGHUP reads the configuration again."""
    table = IdTable(runtime.settings.dedupe_max_ids)
    await run_ingest_process(runtime, table, number=0)


async def run_ingest_process(runtime: Runtime, table: IdTable, number: int) -> None:
    """The process of that number, from 0; the first one also keeps the dedupe window of the host."""
    if not runtime.sources:
        raise Misconfigured("no source is configured: set a provider's secret (STRIPE_WEBHOOK_SECRET, …)")
    async with IngestService.open(runtime, table, Signals.of_process(), number) as service:
        await service.work()


class IngestService:
    """The parts, and the order in which they start and stop."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, runtime: Runtime, table: IdTable, signals: Signals, number: int = 0, clocks: Clocks = _CLOCKS
    ) -> "AsyncIterator[IngestService]":
        """It answers, and knows the tail of the log; `work` is what it does then. Drained at the end."""
        service = cls(runtime, table, signals, number, clocks)
        try:
            await service.start()
            yield service
        finally:
            await service.drain()

    def __init__(self, runtime: Runtime, table: IdTable, signals: Signals, number: int, clocks: Clocks) -> None:
        settings = runtime.settings
        self._now_ms = now_ms = clocks.now_ms
        self._settings = settings
        self._number = number
        self._table = table
        self._cluster = cluster = runtime.cluster()
        self._topics = [source.topic for source in runtime.sources.values()]
        self._has_spool = settings.spool_max_bytes > 0
        patience = settings.spool_after_seconds if self._has_spool else settings.append_timeout_seconds
        story = Story()
        self._window = DedupeWindow(table, int(settings.dedupe_window.total_seconds() * 1000))
        acked = AckedEnds(self._window).add
        self.log = EventLog(producer_factory(cluster), [*self._topics, QUARANTINE], patience, story, acked)
        self.spool = Spool(self._spool_folder(number), settings.spool_max_bytes // settings.ingest_workers, story)
        wait_seconds = settings.append_timeout_seconds
        storing = Storing(self.log, self._window, self.spool, wait_seconds, lambda: table.is_complete)
        self.quarantine = QuarantineWriter(
            self.log, runtime.file.quarantine, now_ms, settings.ingest_workers, clocks.monotonic
        )
        given = runtime.file.limits
        limits = Limits(given.model_copy(update={"connections": connections_within(given.connections)}), table)
        self.ingress = Ingress(runtime.sources, storing, self.quarantine, limits, settings.public_url, now_ms)
        self._control = Control(cluster)
        self._topic_ids = TopicIds(cluster)
        self._last_heard = LastHeard(settings.data)
        self._broker = BrokerCheck(cluster)
        self._stop, self._reload, self._is_drained = signals.stop, signals.reload, asyncio.Event()
        server = create_server(self.ingress, limits, self._readiness)
        self._runner = web.ServerRunner(server, shutdown_timeout=DRAIN_SECONDS)
        self.keeper: WindowKeeper | None = None
        if number == 0:
            folder = settings.data / "dedupe"
            self.keeper = WindowKeeper(
                table, self._window, folder, lambda topics: KafkaLogTail(cluster, topics), self._topic_ids
            )
        self._endless: list[asyncio.Task[None]] = []
        self._saving: list[asyncio.Task[None]] = []

    def _spool_folder(self, number: int) -> Path:
        return self._settings.data / "spool" / str(number)

    async def _readiness(self) -> tuple[bool, dict[str, bool]]:
        """Without its broker it is ready while the spool takes deliveries: turning them away would lose them."""
        checks = {
            "broker": await self._broker.is_up(),
            "dedupe": self._table.is_complete,
            "accepting": not self._stop.is_set(),
        }
        is_ready = all(checks.values())
        # The others of the host take deliveries without it.
        checks["window"] = not self._table.is_held()
        if self._has_spool:
            checks["spool"] = await self.spool.would_take()
            is_ready = is_ready or (checks["spool"] and checks["accepting"] and not checks["broker"])
        return is_ready, checks

    async def start(self) -> None:
        """Answer from the first moment. Until the log is there and its tail is read, deliveries go to the spool."""
        await self._open_spool()
        self.ingress.disable(self._last_heard.read())
        settings = self._settings
        has_siblings = settings.ingest_workers > 1
        host, port = settings.ingest_host, settings.ingest_port
        self.port = await listen(self._runner, host, port, "INGEST_PORT", has_siblings)
        self._endless.append(asyncio.create_task(self._publish_periodically()))
        seconds = float("inf") if self._has_spool else DEPENDENCY_SECONDS
        steps = (self._enter, self.log.start, self._hear_operators, self._catch_up)
        for step in steps:
            await wait_for(step, seconds, self._stop)
        self._endless.append(asyncio.create_task(Drain(self.spool, self.log, self._window).run()))

    async def _open_spool(self) -> None:
        folders = (self._settings.data / "spool").glob("[0-9]*") if self._number == 0 else ()
        # Folders of processes that no longer exist.
        numbered = [folder for folder in sorted(folders) if folder.name.isdecimal()]
        abandoned = [folder for folder in numbered if int(folder.name) >= self._settings.ingest_workers]
        for count, spooled in enumerate(self.spool.open(abandoned), 1):
            # While the window is held, it can't know: a copy is one more record, and the drain leaves out one of them.
            with suppress(WindowHeld):
                self._window.remember_spooled(spooled.content, spooled.record.timestamp_ms)
            if count % _TICK_RECORDS == 0:
                await asyncio.sleep(0)
        self._window.has_read_spool(self._number)

    async def _enter(self) -> None:
        """A broker that refuses us now refuses us later: raises `Misconfigured`."""
        await require_kafka(self._cluster)

    async def _hear_operators(self) -> None:
        await self._control.start()
        states = await self._control.catch_up()
        if not self._control.is_missing:
            self._obey(states)

    def _obey(self, states: Mapping[str, SourceState]) -> None:
        disabled = in_state(states, "disabled")
        self.ingress.disable(disabled)
        self._last_heard.write(disabled)

    async def _catch_up(self) -> None:
        if self.keeper is not None:
            await self.keeper.open(self._topics, self._now_ms())
        elif not self._table.is_complete:
            raise Unavailable("the first process is still reading the dedupe window")

    async def _publish_periodically(self) -> None:
        """Scrapes reach one process, and speak for all."""
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            REQUESTS.publish()
            # Without deliveries, nobody else would see it end.
            self._table.is_held()

    async def work(self) -> None:
        if not self._stop.is_set():
            tune_garbage_collection()
            self._endless.append(asyncio.create_task(self._control.follow(self._obey)))
            self._saving.append(asyncio.create_task(self.quarantine.note_dropped_periodically(self._stop)))
            if self.keeper is not None:
                gossip = Gossip(self._cluster, self.keeper.heard)
                self._endless.append(asyncio.create_task(gossip.run()))
                self._endless.append(asyncio.create_task(self.keeper.watch(self._now_ms)))
                self._saving.append(asyncio.create_task(self.keeper.keep(self._now_ms, gossip.tell, self._is_drained)))
        for task in (*self._endless, *self._saving):
            task.add_done_callback(self._stop_if_failed)
        while await wait_for_signal(self._stop, self._reload):
            await self._use_new_configuration()

    def _stop_if_failed(self, task: "asyncio.Task[None]") -> None:
        """Half a service is worse than one that starts again."""
        if not task.cancelled() and task.exception() is not None:
            log.error(
                "a part of the service ended", exc_info=task.exception(), extra={"action": "work", "code": "failed"}
            )
            self._stop.set()

    async def _use_new_configuration(self) -> None:
        """Refuse an invalid configuration as a whole, and keep the old one. No request is dropped either way."""
        runtime = read_again()
        if runtime is None:
            return
        new = [source.topic for source in runtime.sources.values() if source.topic not in self._topics]
        try:
            if new:
                await self._require_topics(new)
                await self.log.follow(new)
                if self.keeper is not None:
                    await self.keeper.learn(new, self._now_ms())
        except (Misconfigured, Unavailable) as error:
            reload_refused(error)
            return
        self._topics += new
        self.ingress.use(runtime.sources)

    async def _require_topics(self, wanted: list[str]) -> None:
        async with Topics(self._cluster) as topics:
            if missing := sorted(set(wanted) - await topics.names()):
                raise Misconfigured(f"topics are missing: {', '.join(missing)}; `redrive topics --apply` creates them")

    async def drain(self) -> None:
        """No new connections, then the answers that are owed, then what the log and the spool still carry."""
        # Also when no signal ended the work: others wait for this.
        self._stop.set()
        await self._runner.cleanup()
        for task in self._endless:
            task.cancel()
        await asyncio.gather(*self._endless, return_exceptions=True)
        await self.log.stop()
        await self.spool.stop()
        self._is_drained.set()
        await asyncio.gather(*self._saving)
        await self._control.stop()
        await self._topic_ids.stop()
        REQUESTS.publish()
