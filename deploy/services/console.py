"""The operators' service as a process."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import asyncpg
from aiohttp import web

from deploy.connections import connect, open_pool, opened, postgres
from deploy.event_loop import YOUNG_OF_READERS, tune_garbage_collection
from deploy.http_server import Runner
from deploy.operator_log import appending, correction_desk
from deploy.postgres import PoolConnections
from deploy.redriving import POOL_CONNECTIONS, prove, rebuild_ports, replay_jobs
from deploy.reload import control_topic
from deploy.service import Signals, health_routes, listen, read_again, wait_for_signal
from deploy.services.checks import BrokerCheck, DatabaseCheck
from deploy.targets import require_target
from deploy.wiring import Runtime
from replay.api.app import create_console
from replay.api.bound import bounded
from replay.api.events import event_routes
from replay.api.operations import Operations
from replay.api.quarantine import QuarantineDoors
from replay.api.rebuilds import RebuildRoutes
from replay.api.replays import MAX_PLANNING, Replays
from replay.api.route import register
from replay.audit import Author
from replay.log.broker import Broker
from replay.log.reader import LogReader
from replay.operations.dead_letters import DeadLetterFilter
from replay.operations.quarantine import QuarantineReader
from replay.operations.requeue import Requeue, Requeued
from replay.ports import Advance, Connection
from replay.prove.certificate import Certificate
from replay.prove.proofs import Proofs
from replay.rebuild.follower import Follower
from replay.rebuild.snapshot_jobs import SnapshotJobs
from replay.tables.folding import LiveFolding
from replay.targets.document import TargetDocument
from schemas.settings import Settings, Source

DRAIN_SECONDS: Final = 20.0


async def run_console(runtime: Runtime) -> None:
    """Until SIGTERM. SIGHUP reads the configuration again."""
    async with ConsoleService.open(runtime, Signals.of_process()) as service:
        # It runs replays.
        tune_garbage_collection(YOUNG_OF_READERS)
        await service.work()


class Pools(NamedTuple):
    """Each of the last three is busy for as long as its user folds. `connections`: those on which requests wait."""

    requests: "asyncpg.Pool[asyncpg.Record]"
    rebuilds: "asyncpg.Pool[asyncpg.Record]"
    snapshots: "asyncpg.Pool[asyncpg.Record]"
    follower: "asyncpg.Pool[asyncpg.Record]"
    connections: PoolConnections

    @classmethod
    async def open(cls, settings: Settings) -> "Pools":
        connections = PoolConnections()
        return cls(
            await open_pool(settings, 4 + MAX_PLANNING, connections),
            await open_pool(settings, POOL_CONNECTIONS, connections),
            await open_pool(settings, POOL_CONNECTIONS),
            await open_pool(settings, POOL_CONNECTIONS),
            connections,
        )

    def terminate(self) -> None:
        for pool in (self.follower, self.rebuilds, self.snapshots, self.requests):
            pool.terminate()


class ConsoleService:
    """The parts, and the order in which they start and stop."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, runtime: Runtime, signals: Signals, routes: Iterable[web.RouteDef] = ()
    ) -> "AsyncIterator[ConsoleService]":
        """It answers, also at `routes`; `work` is what it does then. Drained at the end."""
        service = cls(runtime, await Pools.open(runtime.settings), signals)
        service.app.add_routes(routes)
        try:
            await service.start()
            yield service
        finally:
            await service.drain()

    def __init__(self, runtime: Runtime, pools: Pools, signals: Signals) -> None:
        settings = runtime.settings
        self._settings = settings
        self._runtime = runtime
        self._pools = pools
        self._stop, self._reload = signals
        self._cluster = cluster = runtime.cluster()
        self._database = postgres(settings)
        self._checks = BrokerCheck(cluster), DatabaseCheck(pools.requests)
        self._proofs = Proofs(lambda: connect(settings), self._prove)
        self._scratches = SnapshotJobs(rebuild_ports(runtime, pools.snapshots))
        self.app = self._create_app()
        self._runner = Runner(self.app, access_log=None, shutdown_timeout=DRAIN_SECONDS)

    def _create_app(self) -> web.Application:
        """Every route of the service."""
        pool, cluster = self._pools.requests, self._cluster
        operations = Operations(
            pool=pool,
            sources=self._sources,
            control=control_topic(cluster),
            quarantine=QuarantineDoors(self._open_quarantine, lambda: appending(cluster)),
            desk=lambda: correction_desk(cluster, self._sources()),
            requeue=self._requeue,
            operator=self._runtime.operator,
            proofs=self._proofs,
            rebuilding=rebuild_ports(self._runtime, self._pools.rebuilds),
            scratches=self._scratches,
        )
        replays = Replays(operations, self._open_log, self._require_target, asyncio.Semaphore(MAX_PLANNING))
        app = create_console(pool, self._settings.admin_api_key, operations)
        register(app, event_routes(pool, self._open_log, self._sources))
        register(app, replays.routes())
        register(app, RebuildRoutes(pool, operations.rebuilding, self._scratches).routes())
        app.add_routes(health_routes(self._readiness))
        app.middlewares.append(bounded(self._database, self._pools.connections, Broker(cluster)))
        return app

    def _sources(self) -> Mapping[str, Source]:
        return self._runtime.sources

    def _open_log(self) -> LogReader:
        return LogReader(self._cluster)

    async def _readiness(self) -> dict[str, bool]:
        # Side by side: each may take as long as a page may.
        broker, postgres_check = self._checks
        is_up, (database, schema) = await asyncio.gather(broker.is_up(), postgres_check.ask())
        return {"broker": is_up, "database": database, "schema": schema}

    @asynccontextmanager
    async def _open_quarantine(self, connection: Connection) -> AsyncIterator[QuarantineReader]:
        async with self._open_log() as reader:
            yield QuarantineReader(reader, connection, self._sources(), self._settings.public_url)

    async def _requeue(self, connection: Connection, wanted: DeadLetterFilter, author: Author | None) -> Requeued:
        async with self._open_log() as reader:
            folding = await LiveFolding.open(connection)
            return await Requeue(connection, reader, folding, author).run(wanted, _unheard)

    async def _prove(self, advance: Advance, accepting: Author | None) -> Certificate:
        return await prove(self._runtime, advance, accepting, opened)

    async def _require_target(self, target: TargetDocument | None) -> dict[str, Any] | None:
        return await require_target(self._runtime, target)

    async def start(self) -> None:
        host, port = self._settings.console_host, self._settings.console_port
        self.port = await listen(self._runner, host, port, "CONSOLE_PORT")

    async def work(self) -> None:
        """Run replays, and keep generations up to date that are not live, until it is time to stop."""
        working = [
            asyncio.create_task(Follower(rebuild_ports(self._runtime, self._pools.follower)).run()),
            asyncio.create_task(replay_jobs(lambda: self._runtime).serve(self._pools.requests)),
        ]
        try:
            while await wait_for_signal(self._stop, self._reload):
                self._runtime = read_again() or self._runtime
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def drain(self) -> None:
        """No new connections, then the answers that are owed, then what requests left behind."""
        await self._runner.cleanup()
        await self._proofs.stop()
        await self._scratches.stop()
        self._database.close()
        self._pools.terminate()


def _unheard(_: int) -> None:
    """Nobody watches the progress of a request."""
