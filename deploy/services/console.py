"""The operators' service as a process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
from aiohttp import web
from pydantic import SecretStr

from deploy.connections import connect, open_pool, opened, postgres
from deploy.event_loop import YOUNG_OF_READERS, tune_garbage_collection
from deploy.http_server import Runner
from deploy.operator_log import appending, correction_desk
from deploy.postgres import PoolConnections
from deploy.proofs import prove
from deploy.rebuild_ports import POOL_CONNECTIONS, ports_of
from deploy.reload import control_topic
from deploy.replay_jobs import jobs
from deploy.service import (
    Readiness,
    health_routes,
    listen,
    read_again,
    reload_event,
    stop_event,
    wait_for_signal,
)
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
from replay.operations.dead_letters import DeadLetters
from replay.operations.quarantine import Quarantine
from replay.operations.requeue import Requeue, Requeued
from replay.ports import Connection
from replay.prove.proofs import Proofs
from replay.rebuild.follower import Follower
from replay.rebuild.snapshot_jobs import Scratches
from replay.tables.folding import LiveFolding
from replay.targets.document import TargetDocument

DRAIN_SECONDS: Final = 20.0


async def run_console(runtime: Runtime) -> None:
    """Until SIGTERM. SIGHUP reads the configuration again."""
    settings = runtime.settings
    stop, reload = stop_event(), reload_event()
    # Those on which requests wait.
    connections = PoolConnections()
    pool = await open_pool(settings, 4 + MAX_PLANNING, connections)
    # Each of these is busy for as long as it folds.
    follow_pool = await open_pool(settings, size=POOL_CONNECTIONS)
    rebuild_pool = await open_pool(settings, POOL_CONNECTIONS, connections)
    scratch_pool = await open_pool(settings, size=POOL_CONNECTIONS)
    cluster = runtime.cluster()
    broker, checks = BrokerCheck(cluster), DatabaseCheck(pool)
    current = [runtime]

    async def readiness() -> dict[str, bool]:
        # Side by side: each may take as long as a page may.
        is_up, (database, schema) = await asyncio.gather(broker.is_up(), checks.ask())
        return {"broker": is_up, "database": database, "schema": schema}

    @contextlib.asynccontextmanager
    async def open_quarantine(connection: Connection) -> AsyncIterator[Quarantine]:
        async with LogReader(cluster) as reader:
            yield Quarantine(reader, connection, current[0].sources, settings.public_url)

    async def requeue(connection: Connection, wanted: DeadLetters, author: Author | None) -> Requeued:
        async with LogReader(cluster) as reader:
            folding = await LiveFolding.open(connection)
            return await Requeue(connection, reader, folding, author).run(wanted, _unheard)

    proofs = Proofs(lambda: connect(settings), lambda advance, accepting: prove(current[0], advance, accepting, opened))
    scratches = Scratches(ports_of(runtime, scratch_pool))
    operations = Operations(
        pool=pool,
        sources=lambda: current[0].sources,
        control=control_topic(cluster),
        quarantine=QuarantineDoors(open_quarantine, lambda: appending(cluster)),
        desk=lambda: correction_desk(cluster, current[0].sources),
        requeue=requeue,
        operator=runtime.operator,
        proofs=proofs,
        rebuilding=ports_of(runtime, rebuild_pool),
        scratches=scratches,
    )

    async def require(target: TargetDocument | None) -> dict[str, Any] | None:
        return await require_target(current[0], target)

    replays = Replays(
        operations,
        lambda: LogReader(cluster),
        require,
        asyncio.Semaphore(MAX_PLANNING),
    )
    app = create_app(pool, settings.admin_api_key, replays, readiness)
    database = postgres(settings)
    app.middlewares.append(bounded(database, connections, Broker(cluster)))
    following = asyncio.create_task(Follower(ports_of(runtime, follow_pool)).run())
    runner = Runner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    running = asyncio.create_task(jobs(lambda: current[0]).serve(pool))
    try:
        await listen(runner, settings.console_host, settings.console_port, "CONSOLE_PORT")
        # It runs replays.
        tune_garbage_collection(YOUNG_OF_READERS)
        while await wait_for_signal(stop, reload):
            changed = read_again()
            if changed is not None:
                current[:] = [changed]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await runner.cleanup()
        await proofs.stop()
        await scratches.stop()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        database.close()
        for one in (follow_pool, rebuild_pool, scratch_pool, pool):
            one.terminate()


def create_app(
    pool: "asyncpg.Pool[asyncpg.Record]",
    admin_api_key: SecretStr | None,
    replays: Replays,
    readiness: Readiness,
) -> web.Application:
    """Every route of the service."""
    operations = replays.operations
    app = create_console(pool, admin_api_key, operations)
    register(app, event_routes(pool, replays.open_reader, operations.sources))
    register(app, replays.routes())
    register(app, RebuildRoutes(pool, operations.rebuilding, operations.scratches).routes())
    app.add_routes(health_routes(readiness))
    return app


def _unheard(_: int) -> None:
    """Nobody watches the progress of a request."""
