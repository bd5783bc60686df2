"""Several ingest processes on one port (SO_REUSEPORT), and the memory of record ids that they share."""

import asyncio
import shutil
import signal
import socket
import sys
from contextlib import AsyncExitStack, closing
from typing import Final

from deploy.output import err
from deploy.service import reload_event, stop_event, wait_for_signal
from deploy.services.ingest import DRAIN_SECONDS
from deploy.supervisor import Child, Command
from deploy.wiring import Runtime
from ingest.id_table import IdTable
from schemas.errors import Misconfigured

STOP_SECONDS: Final = DRAIN_SECONDS + 15


async def run_ingest_host(runtime: Runtime) -> None:
    """Until SIGTERM. SIGHUP has every process read the configuration again; one that dies is started again."""
    settings = runtime.settings
    stop, reload = stop_event(), reload_event()
    async with AsyncExitStack() as stack:
        # Held, not listened on: nobody else gets the port, and all processes get the same one.
        held = stack.enter_context(closing(_reserve(settings.ingest_host, settings.ingest_port)))
        table = IdTable(settings.dedupe_max_ids, is_shared=True)
        stack.callback(table.close)
        counters = settings.data / "run" / "ingest-metrics"
        shutil.rmtree(counters, ignore_errors=True)
        counters.mkdir(parents=True)
        environment = {
            "INGEST_HOST": settings.ingest_host,
            "INGEST_PORT": str(held.getsockname()[1]),
            "INGEST_WORKERS": str(settings.ingest_workers),
            "PROMETHEUS_MULTIPROC_DIR": str(counters),
        }
        children = [
            Child(_command(number, table, environment), lambda text: err.print(f"[yellow]![/] {text}"))
            for number in range(settings.ingest_workers)
        ]
        stack.push_async_callback(_stop_all, children)
        for child in children:
            await child.start()
        givers = [asyncio.create_task(_stop_when_hopeless(child, stop)) for child in children]
        while await wait_for_signal(stop, reload):
            for child in children:
                child.signal(signal.SIGHUP)
        for task in givers:
            task.cancel()
        if any(child.gave_up.is_set() for child in children):
            raise Misconfigured("an ingest process can't work as it is configured; its log says why")


def _command(number: int, table: IdTable, environment: dict[str, str]) -> Command:
    return Command(
        f"ingest-{number}",
        [sys.executable, "-m", "deploy.services.ingest_worker", str(number), str(table.descriptor)],
        environment=environment,
        stop_seconds=STOP_SECONDS,
        descriptors=[table.descriptor] if table.descriptor is not None else [],
    )


async def _stop_when_hopeless(child: Child, stop: asyncio.Event) -> None:
    await child.gave_up.wait()
    stop.set()


async def _stop_all(children: list[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))


def _reserve(host: str, port: int) -> socket.socket:
    """Raises `Misconfigured` where another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Without the option, so that a second redrive can't quietly take half of the deliveries.
        with closing(socket.socket(family)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        raise Misconfigured(f"{host}:{port} can't be bound ({error.strerror}); set INGEST_PORT") from error
    return held
