"""Several ingest processes on one port (SO_REUSEPORT), and the memory of record ids that they share."""

import asyncio
import fcntl
import shutil
import signal
import socket
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import BinaryIO, Final

from deploy.output import err
from deploy.service import reload_event, stop_event, wait_for_signal
from deploy.services.ingest import DRAIN_SECONDS
from deploy.supervisor import Child, Command
from deploy.wiring import Runtime
from ingest.id_table import IdTable
from schemas.errors import Misconfigured

STOP_SECONDS: Final = DRAIN_SECONDS + 15
ORPHAN_SECONDS: Final = STOP_SECONDS + 10
"""How long processes whose parent was killed may take to finish."""


async def run_ingest_host(runtime: Runtime) -> None:
    """Until SIGTERM. SIGHUP has every process read the configuration again; one that dies is started again."""
    settings = runtime.settings
    stop, reload = stop_event(), reload_event()
    async with AsyncExitStack() as stack:
        running = stack.enter_context(closing(await _after_orphans(settings.data / "run" / "ingest.lock", stop)))
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
            Child(_command(number, table, running, environment), lambda text: err.print(f"[yellow]![/] {text}"))
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


async def _after_orphans(path: Path, stop: asyncio.Event) -> BinaryIO:
    """The right to run. Every process of ours holds it until it has gone, so that those whose parent was killed can
    finish, and give back the port and their spools. Raises `Misconfigured`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("wb")
    deadline = asyncio.get_running_loop().time() + ORPHAN_SECONDS
    while not stop.is_set():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Misconfigured(f"other ingest processes use {path.parent.parent}: set REDRIVE_DATA") from error
            await asyncio.sleep(0.1)
    return lock


def _command(number: int, table: IdTable, running: BinaryIO, environment: dict[str, str]) -> Command:
    return Command(
        f"ingest-{number}",
        [sys.executable, "-m", "deploy.services.ingest_worker", str(number), str(table.descriptor)],
        environment=environment,
        stop_seconds=STOP_SECONDS,
        descriptors=[running.fileno(), *([table.descriptor] if table.descriptor is not None else [])],
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
