"""`redrive ingest | processors | console`: each service alone, in the foreground, drained on SIGTERM."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import click
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy import logs, migrate
from deploy.cli import option, run, with_runtime
from deploy.service import Readiness, health_routes, listen, stop_event, tune_garbage_collection, wait_for
from deploy.topics import Topics
from deploy.wiring import Runtime, open_pool
from ingest.app import create_server
from ingest.dedupe import DedupeWindow, save_periodically
from ingest.event_log import EventLog, producer_factory
from ingest.handler import Ingress
from ingest.log_tail import KafkaLogTail
from ingest.window_store import WindowStore
from processors.app import create_app
from processors.batches import BatchApp
from processors.dead_letters import KafkaDeadLetters
from processors.failures import RETRYABLE
from processors.worker import Worker
from schemas.errors import Misconfigured, Unavailable
from schemas.settings import Settings
from schemas.topics import MAX_RECORD_BYTES, PREFIX, SIDE_CONFIG

DEPENDENCY_SECONDS: Final = 30.0
"""How long a starting service waits for Kafka before it gives up with 69."""

DRAIN_SECONDS: Final = 20.0
CHECK_SECONDS: Final = 3.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _overridden(runtime: Runtime, **flags: Any) -> Settings:
    """The settings, with the flags that were given."""
    return runtime.settings.model_copy(update={name: value for name, value in flags.items() if value is not None})


@click.command()
@option("--host", "INGEST_HOST", "Address to bind.")
@option("--port", "INGEST_PORT", "Port to bind; default 8080.", type=int)
@with_runtime
def ingest(runtime: Runtime, host: str | None, port: int | None) -> None:
    """Take webhooks in: HTTP to log."""
    settings = _overridden(runtime, ingest_host=host, ingest_port=port)
    logs.configure("ingest", settings.data, settings.log_level, settings.log_stdout_level)
    run(_ingest(Runtime(settings, runtime.file, runtime.sources)))


async def _ingest(runtime: Runtime) -> None:
    settings = runtime.settings
    servers = settings.require_kafka()
    if not runtime.sources:
        raise Misconfigured("no source is configured: set a provider's secret (STRIPE_WEBHOOK_SECRET, …)")
    stop = stop_event()
    topics = [source.topic for source in runtime.sources.values()]
    log = EventLog(producer_factory(servers), topics, settings.append_timeout_seconds)
    window = DedupeWindow(int(settings.dedupe_window.total_seconds() * 1000), settings.dedupe_max_ids)
    ingress = Ingress(runtime.sources, log, window, settings.public_url)
    broker, is_drained = _BrokerCheck(servers), asyncio.Event()

    async def readiness() -> dict[str, bool]:
        return {"broker": await broker.is_up(), "dedupe": ingress.is_caught_up, "accepting": not stop.is_set()}

    runner = web.ServerRunner(create_server(ingress, readiness), shutdown_timeout=DRAIN_SECONDS)
    await listen(runner, settings.ingest_host, settings.ingest_port, "INGEST_PORT")
    store: WindowStore | None = None
    saving: asyncio.Task[None] | None = None

    async def catch_up() -> None:
        nonlocal store
        async with KafkaLogTail(servers, topics) as tail:
            store = await window.open(settings.data / "dedupe", tail, _now_ms())

    try:
        await wait_for(log.start, DEPENDENCY_SECONDS, stop)
        await wait_for(catch_up, DEPENDENCY_SECONDS, stop)
        if store is not None:
            ingress.is_caught_up = True
            tune_garbage_collection()
            saving = asyncio.create_task(save_periodically(window, store, _now_ms, is_drained))
        await stop.wait()
    finally:
        # No new connections, then the answers that are owed, then what the log still carries.
        await runner.cleanup()
        await log.stop()
        is_drained.set()
        if saving is not None:
            await saving
        if store is not None:
            store.close()


@click.command()
@option("--host", "PROCESSORS_HOST", "Address of its health and metrics pages; default 127.0.0.1.")
@option("--port", "PROCESSORS_PORT", "Their port; default 8082.", type=int)
@with_runtime
def processors(runtime: Runtime, host: str | None, port: int | None) -> None:
    """Fold the log into Postgres."""
    settings = _overridden(runtime, processors_host=host, processors_port=port)
    logs.configure("processors", settings.data, settings.log_level, settings.log_stdout_level)
    run(_processors(Runtime(settings, runtime.file, runtime.sources)))


async def _processors(runtime: Runtime) -> None:
    settings = runtime.settings
    servers = settings.require_kafka()
    stop = stop_event()
    pool = await open_pool(settings, size=4)
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, max_request_size=MAX_RECORD_BYTES
    )
    worker = Worker(pool, KafkaDeadLetters(producer))
    app: BatchApp | None = None
    broker, checks = _BrokerCheck(servers), _DatabaseCheck(pool)

    async def readiness() -> dict[str, bool]:
        database, schema = await checks.ask()
        return {
            "broker": await broker.is_up(),
            "database": database and worker.is_database_up,
            "schema": schema,
            "assignment": app is not None and app.is_reading,
        }

    runner = await _serve_health(readiness, settings.processors_host, settings.processors_port, "PROCESSORS_PORT")
    try:

        async def start_producer() -> None:
            try:
                await producer.start()
            except KafkaError as error:
                raise Unavailable(f"Kafka does not answer at {servers}: {error}") from error

        await wait_for(start_producer, DEPENDENCY_SECONDS, stop)
        topics = await _topics_to_fold(servers, runtime)
        app = create_app(servers, topics, worker, settings.data)
        await app.start()
        tune_garbage_collection()
        await _until_stopped_or_crashed(app, stop)
    finally:
        if app is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(app.stop(), DRAIN_SECONDS)
        await producer.stop()
        pool.terminate()
        await runner.cleanup()


async def _until_stopped_or_crashed(app: BatchApp, stop: asyncio.Event) -> None:
    """Faust stops itself when a part of it crashes; the supervisor then starts a new process."""
    stopped = asyncio.create_task(stop.wait())
    while not stopped.done():
        await asyncio.wait({stopped}, timeout=1)
        if app.crashed or app.should_stop:
            stopped.cancel()
            raise Unavailable(f"the worker crashed: {app.crash_reason}")


async def _topics_to_fold(servers: str, runtime: Runtime) -> list[str]:
    """Those of the configured sources, and those that a source no longer configured left behind."""
    async with Topics(servers) as topics:
        names = {name for name in await topics.names() if name.startswith(PREFIX) and name not in SIDE_CONFIG}
    wanted = {source.topic for source in runtime.sources.values()}
    if missing := sorted(wanted - names):
        raise Misconfigured(f"topics are missing: {', '.join(missing)}; `redrive topics --apply` creates them")
    return sorted(names | wanted)


async def _serve_health(readiness: Readiness, host: str, port: int, variable: str) -> web.AppRunner:
    app = web.Application()
    app.add_routes(health_routes(readiness))
    runner = web.AppRunner(app, access_log=None)
    await listen(runner, host, port, variable)
    return runner


class _BrokerCheck:
    """Whether a broker answers, asked at most once a second."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._asked = 0.0
        self._is_up = False

    async def is_up(self) -> bool:
        if time.monotonic() - self._asked > 1:
            self._asked = time.monotonic()
            client = AIOKafkaAdminClient(bootstrap_servers=self._servers, request_timeout_ms=2000)
            try:
                await asyncio.wait_for(client.start(), 3)
                self._is_up = True
            except (KafkaError, TimeoutError):
                self._is_up = False
            finally:
                await client.close()
        return self._is_up


class _DatabaseCheck:
    """Whether Postgres answers, and with this version's schema.

    At most one question is under way: a server that hangs must hang this question, not the page that asks it.
    """

    def __init__(self, pool: migrate.Pool) -> None:
        self._pool = pool
        self._question: asyncio.Task[tuple[bool, bool]] | None = None

    async def ask(self) -> tuple[bool, bool]:
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._ask())
        await asyncio.wait({self._question}, timeout=CHECK_SECONDS)
        return self._question.result() if self._question.done() else (False, False)

    async def _ask(self) -> tuple[bool, bool]:
        try:
            async with self._pool.acquire(timeout=CHECK_SECONDS) as connection:
                return True, await migrate.is_current(connection)
        except Misconfigured:
            return True, False
        except RETRYABLE:
            return False, False


@click.command()
@option("--host", "CONSOLE_HOST", "Address to bind; default 127.0.0.1.")
@option("--port", "CONSOLE_PORT", "Port to bind; default 8081.", type=int)
@with_runtime
def console(runtime: Runtime, host: str | None, port: int | None) -> None:
    """Serve operators: health, metrics, and what the tables hold."""
    settings = _overridden(runtime, console_host=host, console_port=port)
    logs.configure("console", settings.data, settings.log_level, settings.log_stdout_level)
    run(_console(Runtime(settings, runtime.file, runtime.sources)))


async def _console(runtime: Runtime) -> None:
    from replay.api import create_console

    settings = runtime.settings
    stop = stop_event()
    pool = await open_pool(settings, size=4)
    broker, checks = _BrokerCheck(settings.require_kafka()), _DatabaseCheck(pool)

    async def readiness() -> dict[str, bool]:
        database, schema = await checks.ask()
        return {"broker": await broker.is_up(), "database": database, "schema": schema}

    app = create_console(pool, settings.admin_api_key, sorted(runtime.sources))
    app.add_routes(health_routes(readiness))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    try:
        await listen(runner, settings.console_host, settings.console_port, "CONSOLE_PORT")
        await stop.wait()
    finally:
        await runner.cleanup()
        pool.terminate()


COMMANDS: Final[Sequence[click.Command]] = (ingest, processors, console)
