"""Several processes of a service on one port (SO_REUSEPORT), with one page of metrics; for those of the ingress, the
memory of record ids that they share. Must not do any of their work.
"""

import asyncio
import fcntl
import shutil
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from deploy.service import reload_event, stop_event, wait_for_signal
from deploy.supervisor import Child, Command, wait_until_all_give_up
from deploy.wiring import Runtime
from ingest.dedupe.id_table import IdTable
from schemas.errors import Misconfigured

STOP_SECONDS: Final = 35.0
"""A process drains in 20 s, and gives up by itself at 25."""

ORPHAN_SECONDS: Final = STOP_SECONDS + 10
"""How long processes whose parent was killed may take to finish."""


@dataclass(frozen=True, slots=True)
class _Workers:
    """`count` processes of a service, on a port that `variable`_PORT names; each gets the descriptor of the table."""

    service: str
    variable: str
    count: int
    host: str
    port: int
    table: IdTable | None = None

    def environment(self, port: int, counters: Path) -> dict[str, str]:
        """The values of the flags, and the settings that are the same for all."""
        # A process that starts again later must not see another size of what it shares.
        shared = {} if self.table is None else {"DEDUPE_MAX_IDS": str(self.table.max_ids)}
        return shared | {
            f"{self.variable}_HOST": self.host,
            f"{self.variable}_PORT": str(port),
            f"{self.variable}_WORKERS": str(self.count),
            "PROMETHEUS_MULTIPROC_DIR": str(counters),
        }

    def command(self, number: int, running: BinaryIO, environment: Mapping[str, str]) -> Command:
        own = [self.table.descriptor] if self.table is not None and self.table.descriptor is not None else []
        argv = [sys.executable, "-m", "deploy.services.worker", self.service, str(number), *map(str, own)]
        return Command(
            f"{self.service}-{number}",
            argv,
            environment=environment,
            stop_seconds=STOP_SECONDS,
            descriptors=[running.fileno(), *own],
        )


async def run_ingest_host(runtime: Runtime) -> None:
    """Until SIGTERM."""
    settings = runtime.settings
    with closing(IdTable(settings.dedupe_max_ids, is_shared=True)) as table:
        workers = _Workers(
            "ingest", "INGEST", settings.ingest_workers, settings.ingest_host, settings.ingest_port, table
        )
        await _run_workers(workers, settings.data)


async def run_processors_host(runtime: Runtime) -> None:
    """Until SIGTERM. The processes are members of one consumer group: Kafka deals the partitions out."""
    settings = runtime.settings
    workers = _Workers(
        "processors", "PROCESSORS", settings.processors_workers, settings.processors_host, settings.processors_port
    )
    await _run_workers(workers, settings.data)


async def _run_workers(workers: _Workers, data: Path) -> None:
    """SIGHUP has every process read the configuration again; one that dies is started again."""
    stop, reload = stop_event(), reload_event()
    async with AsyncExitStack() as stack:
        running = stack.enter_context(closing(await _after_orphans(workers.service, data, stop)))
        # Held, not listened on: nobody else gets the port, and all processes get the same one.
        held = stack.enter_context(closing(_reserve(workers)))
        counters = data / "run" / f"{workers.service}-metrics"
        shutil.rmtree(counters, ignore_errors=True)
        counters.mkdir(parents=True)
        environment = workers.environment(held.getsockname()[1], counters)
        children = [Child(workers.command(number, running, environment), _announce) for number in range(workers.count)]
        stack.push_async_callback(_stop_all, children)
        for child in children:
            await child.start()
        watching = asyncio.create_task(wait_until_all_give_up(children, _announce))
        watching.add_done_callback(lambda _: stop.set())
        while await wait_for_signal(stop, reload):
            for child in children:
                await child.reload()
        watching.cancel()
        if any(child.gave_up.is_set() for child in children):
            raise Misconfigured(f"a process of {workers.service} can't run with this configuration: see its log")


async def _after_orphans(service: str, data: Path, stop: asyncio.Event) -> BinaryIO:
    """The right to run. Every process of ours holds it until it has gone, so that those whose parent was killed can
    finish, and give back the port and their spools. Raises `Misconfigured`.
    """
    path = data / "run" / f"{service}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("wb")
    deadline = asyncio.get_running_loop().time() + ORPHAN_SECONDS
    while not stop.is_set():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Misconfigured(f"other processes of {service} use {data}: set REDRIVE_DATA") from error
            await asyncio.sleep(0.1)
    return lock


def _announce(text: str) -> None:
    print(f"! {text}", file=sys.stderr)


async def _stop_all(children: list[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))


def _reserve(workers: _Workers) -> socket.socket:
    """Raises `Misconfigured` where another program has the port."""
    host, port = workers.host, workers.port
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
        raise Misconfigured(f"{host}:{port} can't be bound ({error.strerror}); set {workers.variable}_PORT") from error
    return held
