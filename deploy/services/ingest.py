"""The ingress as a process: HTTP in front, the log behind, and what operators say in between."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from deploy.control import Control, in_state
from deploy.service import (
    listen,
    read_again,
    reload_event,
    reload_refused,
    stop_event,
    tune_garbage_collection,
    wait_for,
    wait_for_signal,
)
from deploy.services.checks import BrokerCheck
from deploy.topics import Topics
from deploy.wiring import Runtime
from ingest.app import create_server
from ingest.dedupe import DedupeWindow, save_periodically
from ingest.event_log import EventLog
from ingest.handler import Ingress
from ingest.log_tail import KafkaLogTail
from ingest.producer import producer_factory
from ingest.quarantine import Quarantine
from ingest.window_store import WindowStore
from schemas.control import SourceState
from schemas.errors import Misconfigured, Unavailable
from schemas.topics import QUARANTINE

DEPENDENCY_SECONDS: Final = 30.0
"""How long a starting service waits for Kafka before it gives up with 69."""

DRAIN_SECONDS: Final = 20.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def run_ingest(runtime: Runtime) -> None:
    """Until SIGTERM. SIGHUP reads the configuration again."""
    if not runtime.sources:
        raise Misconfigured("no source is configured: set a provider's secret (STRIPE_WEBHOOK_SECRET, …)")
    service = _IngestService(runtime, runtime.settings.require_kafka())
    try:
        await service.start()
        await service.work()
    finally:
        await service.drain()


class _IngestService:
    """The parts, and the order in which they start and stop."""

    def __init__(self, runtime: Runtime, servers: str) -> None:
        settings = runtime.settings
        self._settings = settings
        self._servers = servers
        self._topics = [source.topic for source in runtime.sources.values()]
        self._log = EventLog(producer_factory(servers), [*self._topics, QUARANTINE], settings.append_timeout_seconds)
        self._window = DedupeWindow(int(settings.dedupe_window.total_seconds() * 1000), settings.dedupe_max_ids)
        self._quarantine = Quarantine(self._log, runtime.file.quarantine, _now_ms)
        self._ingress = Ingress(runtime.sources, self._log, self._window, self._quarantine, settings.public_url)
        self._control = Control(servers)
        self._broker = BrokerCheck(servers)
        self._stop, self._reload, self._is_drained = stop_event(), reload_event(), asyncio.Event()
        self._runner = web.ServerRunner(create_server(self._ingress, self._readiness), shutdown_timeout=DRAIN_SECONDS)
        self._store: WindowStore | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None

    async def _readiness(self) -> dict[str, bool]:
        return {
            "broker": await self._broker.is_up(),
            "dedupe": self._ingress.is_caught_up,
            "accepting": not self._stop.is_set(),
        }

    async def start(self) -> None:
        """Answer from the first moment, if only 503; deliveries are taken once all is read."""
        await listen(self._runner, self._settings.ingest_host, self._settings.ingest_port, "INGEST_PORT")
        for step in (self._log.start, self._hear_operators, self._catch_up):
            await wait_for(step, DEPENDENCY_SECONDS, self._stop)

    async def _hear_operators(self) -> None:
        await self._control.start()
        self._obey(await self._control.catch_up())

    def _obey(self, states: Mapping[str, SourceState]) -> None:
        self._ingress.disable(in_state(states, "disabled"))

    async def _catch_up(self) -> None:
        async with KafkaLogTail(self._servers, self._topics) as tail:
            self._store = await self._window.open(self._settings.data / "dedupe", tail, _now_ms())

    async def work(self) -> None:
        if self._store is not None:
            tune_garbage_collection()
            self._tasks = [
                asyncio.create_task(save_periodically(self._window, self._store, _now_ms, self._is_drained)),
                asyncio.create_task(self._quarantine.note_dropped_periodically(self._stop)),
            ]
            self._following = asyncio.create_task(self._control.follow(self._obey))
            self._ingress.is_caught_up = True
        while await wait_for_signal(self._stop, self._reload):
            await self._use_new_configuration()

    async def _use_new_configuration(self) -> None:
        """What can't work is refused whole, and the old configuration stays. No request is dropped either way."""
        runtime = read_again()
        if runtime is None:
            return
        new = [source.topic for source in runtime.sources.values() if source.topic not in self._topics]
        try:
            if new:
                await self._require_topics(new)
                await self._log.follow(new)
                async with KafkaLogTail(self._servers, new) as tail:
                    await self._window.learn(tail, _now_ms())
        except (Misconfigured, Unavailable) as error:
            reload_refused(error)
            return
        self._topics += new
        self._ingress.use(runtime.sources)

    async def _require_topics(self, wanted: list[str]) -> None:
        async with Topics(self._servers) as topics:
            if missing := sorted(set(wanted) - await topics.names()):
                raise Misconfigured(f"topics are missing: {', '.join(missing)}; `redrive topics --apply` creates them")

    async def drain(self) -> None:
        """No new connections, then the answers that are owed, then what the log still carries."""
        await self._runner.cleanup()
        if self._following is not None:
            self._following.cancel()
        await self._log.stop()
        self._is_drained.set()
        await asyncio.gather(*self._tasks)
        if self._store is not None:
            self._store.close()
        await self._control.stop()
