"""`redrive ingest | processors | console`: each service alone, in the foreground, drained on SIGTERM."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import click

from deploy import logs
from deploy.connections import connect
from deploy.event_loop import run
from deploy.kafka import require_kafka
from deploy.service import remember, told
from deploy.terminal.command import option, with_runtime
from deploy.terminal.group import examples
from deploy.wiring import Runtime
from schemas.errors import Unavailable


def _configured(runtime: Runtime, service: str, **flags: Any) -> Runtime:
    """With the flags that were given, and the service's log open."""
    given = {name: value for name, value in flags.items() if value is not None}
    settings = runtime.settings.model_copy(update=given)
    logs.configure(service, settings.data, settings.log_level, settings.log_stdout_level)
    remember(runtime)
    return replace(runtime, settings=settings)


async def _serve(
    service: Callable[[Runtime], Awaitable[None]], runtime: Runtime, *doors: Callable[[Runtime], Awaitable[None]]
) -> None:
    """A refusal will not change, so it ends the service here; a server that is away may come back: wait for it."""
    with told():
        for enter in doors:
            with contextlib.suppress(Unavailable):
                await enter(runtime)
        await service(runtime)


async def _kafka(runtime: Runtime) -> None:
    await require_kafka(runtime.cluster())


async def _database(runtime: Runtime) -> None:
    await (await connect(runtime.settings)).close()


# Each imports its service when it is called: a short command need not wait for Faust.
@click.command(epilog=examples("redrive ingest --port 8080 --workers 4"))
@option("--host", "INGEST_HOST", "Address to bind.")
@option("--port", "INGEST_PORT", "Port to bind; default 8080.", type=int)
@option("--workers", "INGEST_WORKERS", "Processes on that port; default 1.", type=click.IntRange(1, 64))
@with_runtime
def ingest(runtime: Runtime, host: str | None, port: int | None, workers: int | None) -> None:
    """Take webhooks in: HTTP to log. SIGHUP reads redrive.toml again."""
    from deploy.services.ingest import run_ingest
    from deploy.services.worker_host import run_ingest_host

    configured = _configured(runtime, "ingest", ingest_host=host, ingest_port=port, ingest_workers=workers)
    run(_serve(run_ingest if configured.settings.ingest_workers == 1 else run_ingest_host, configured))


@click.command(epilog=examples("redrive processors --workers 2"))
@option("--host", "PROCESSORS_HOST", "Address of its health and metrics pages; default 127.0.0.1.")
@option("--port", "PROCESSORS_PORT", "Their port; default 8082.", type=int)
@option("--workers", "PROCESSORS_WORKERS", "Processes, sharing the partitions; default 1.", type=click.IntRange(1, 64))
@with_runtime
def processors(runtime: Runtime, host: str | None, port: int | None, workers: int | None) -> None:
    """Fold the log into Postgres. SIGHUP looks for new topics."""
    from deploy.services.processors import run_processors
    from deploy.services.worker_host import run_processors_host

    configured = _configured(
        runtime, "processors", processors_host=host, processors_port=port, processors_workers=workers
    )
    service = run_processors if configured.settings.processors_workers == 1 else run_processors_host
    run(_serve(service, configured, _kafka, _database))


@click.command(epilog=examples("redrive console --port 8081"))
@option("--host", "CONSOLE_HOST", "Address to bind; default 127.0.0.1.")
@option("--port", "CONSOLE_PORT", "Port to bind; default 8081.", type=int)
@with_runtime
def console(runtime: Runtime, host: str | None, port: int | None) -> None:
    """Serve operators: health, metrics, and what the tables hold."""
    from deploy.services.console import run_console

    configured = _configured(runtime, "console", console_host=host, console_port=port)
    run(_serve(run_console, configured, _kafka, _database))
