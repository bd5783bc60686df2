"""A subject as a process of its own: started, watched, its CPU counted, stopped."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import psutil

from bench.machine import ROOT
from bench.stack import SOURCE, Stack, say
from deploy.supervisor import Child, Command
from schemas.errors import Unavailable
from schemas.providers import PROVIDERS
from schemas.settings import VARIABLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET: Final = "whsec_bench_0123456789abcdef0123456789abcdef"
READY_SECONDS: Final = 60.0
TAIL_CHARACTERS: Final = 2000
_READ_BY_FAUST: Final = {"TOPIC_PARTITIONS", "TOPIC_REPLICATION_FACTOR"}


def environment(stack: Stack, name: str) -> dict[str, str]:
    """Settings of a subject, with nothing of the caller's own: an empty variable counts as unset.

    Only those that the caller has set are emptied: Faust reads some of the same names, and takes empty for a value.
    """
    folder = stack.folder / "subjects" / f"{name}-{time.monotonic_ns()}"
    folder.mkdir(parents=True)
    return {
        **dict.fromkeys(VARIABLES.keys() & os.environ.keys() - _READ_BY_FAUST, ""),
        "PYTHONPATH": str(ROOT),
        "REDRIVE_DATA": str(folder),
        "REDRIVE_CONFIG": str(folder / "none.toml"),
        "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
        PROVIDERS[SOURCE].secret_variable: SECRET,
    }


class Subject:
    """A running process."""

    def __init__(self, name: str, child: Child) -> None:
        self.name = name
        self._child = child

    def cpu_seconds(self) -> float:
        """User and system time so far, its children's included."""
        self.require_alive()
        process = psutil.Process(self._child.pid)
        used = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(times.user + times.system for times in used)

    def listeners(self, port: int) -> int:
        """How many of its processes take connections on `port`."""
        process = psutil.Process(self._child.pid)
        return sum(_listens(one, port) for one in (process, *process.children(recursive=True)))

    def require_alive(self) -> None:
        """A subject that was started again measured something else."""
        if self._child.has_exited or self._child.restarts:
            raise Unavailable(f"{self.name} ended early; the end of its log:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The log's folder goes with the run, so what matters of it travels in the error."""
        log = self._child.command.log
        return log.read_text(errors="replace")[-TAIL_CHARACTERS:] if log is not None else ""


def _listens(process: psutil.Process, port: int) -> bool:
    sockets = process.net_connections("tcp")
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def module(name: str, *arguments: str, python: Path | str = sys.executable) -> list[str]:
    """`python -m name …`, in this environment or in another."""
    return [str(python), "-m", name, *arguments]


@asynccontextmanager
async def running(stack: Stack, name: str, argv: Sequence[str], env: Mapping[str, str]) -> "AsyncIterator[Subject]":
    """A subject, with a working folder in which no `.env` lies."""
    log = stack.folder / "logs" / f"{name}.log"
    child = Child(Command(name, argv, log=log, environment=env, home=stack.folder), say)
    await child.start()
    try:
        yield Subject(name, child)
    finally:
        await child.stop()


async def wait_until_ready(subject: Subject, port: int, processes: int) -> None:
    """Wait for a 200, and for every process that shall share the port."""
    listeners = 0
    deadline = time.monotonic() + READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            subject.require_alive()
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                    listeners = subject.listeners(port) if response.status == 200 else 0
                    if listeners >= processes:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
    told = f"{listeners} of {processes} processes ready"
    raise Unavailable(f"{subject.name}: {told} after {READY_SECONDS:.0f} s; the end of its log:\n{subject.log_tail()}")
