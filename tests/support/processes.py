"""The real processes: `redrive up` in a folder of its own, and the command line against it."""

import asyncio
import contextlib
import json
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import aiohttp
import psutil

from deploy.embedded.ports import free_ports
from tests.support import forks
from tests.support.waiting import limit, until, within

LOG_LINES = 30
"""Of each log, where a test fails."""

_installations: WeakSet["Installation"] = WeakSet()
"""Those of the tests that run now: a failure shows their logs."""


class Installation:
    """A folder in which `redrive` runs as a user would run it, with ports and secrets of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        # `redrive up` chooses those of its servers later, while nothing listens on these yet.
        ingest, console, processors = free_ports(3, among=range(12_000, 20_000))
        self.ports = {"ingest": ingest, "console": console, "processors": processors}
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KAFKA_", "DATABASE_", "REDRIVE_"))
        }
        self.environment = {
            **clean,
            "INGEST_PORT": str(ingest),
            "CONSOLE_PORT": str(console),
            "PROCESSORS_PORT": str(processors),
            "INGEST_HOST": "127.0.0.1",
            "SAMPLE": "0",
            **environment,
        }
        self.process: forks.Process | None = None
        _installations.add(self)

    @property
    def ingest_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['ingest']}"

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    async def up(self) -> None:
        """Start everything, and return once every service says that it is ready."""
        output = (self.folder / "up.log").open("ab")
        self.process = await forks.redrive("up", cwd=self.folder, env=self.environment, stdout=output, stderr=output)
        await asyncio.gather(*(self.until_ready(name) for name in self.ports))
        # `up` prints its addresses once it has seen the same.
        await self.until(lambda: "redrive is up" in self.output(), "redrive up says so")

    def _is_up_alive(self) -> bool:
        return self.process is None or self.process.returncode is None

    async def until_ready(
        self, service: str, expect: bool = True, alive: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        what = f"{service} is {'ready' if expect else 'not ready'}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session, limit(what):
            while True:
                assert (alive or self._is_up_alive)(), self.output()
                try:
                    async with session.get(f"{self.url(service)}/readyz") as response:
                        found = await response.json()
                        if (response.status == 200) is expect:
                            return found
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        def is_so() -> bool:
            assert self._is_up_alive(), f"{what}: {self.output()}"
            return condition()

        await until(is_so, what)

    async def metric(self, service: str, name: str, *labels: str) -> float:
        """The sum of a metric's samples that have these labels (`outcome="accepted"`)."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url(service)}/metrics") as response:
            return sum(
                float(line.rpartition(" ")[2])
                for line in (await response.text()).splitlines()
                if line.partition("{")[0].partition(" ")[0] == name and all(label in line for label in labels)
            )

    @asynccontextmanager
    async def serving(self, service: str, **environment: str) -> AsyncIterator[None]:
        """One service alone, ready, on servers that are there; `environment` is its own."""
        output = (self.folder / "up.log").open("ab")
        process = await forks.redrive(
            service, cwd=self.folder, env={**self.environment, **environment}, stdout=output, stderr=output
        )
        try:
            await self.until_ready(service, alive=lambda: process.returncode is None)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await within(process.wait(), f"{service} stops")

    def output(self) -> str:
        return (self.folder / "up.log").read_text()

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self, service: str = "ingest") -> list[psutil.Process]:
        """The processes of a service that runs as several."""
        found = []
        for child in self.children():
            # One that has just been killed has no command line any more.
            with contextlib.suppress(psutil.Error):
                if child.cmdline()[2:4] == ["deploy.services.worker", service]:
                    found.append(child)
        return found

    def service(self, name: str) -> psutil.Process:
        """The process of a service, of Kafka (`kafka.Kafka`) or of Postgres (`postgres`)."""
        for child in self.children():
            line = child.cmdline()
            if line[-1:] == [name] or (name == "kafka" and "kafka.Kafka" in line):
                return child
            if name == "postgres" and line and line[0].endswith("/postgres") and "-D" in line:
                return child
        raise AssertionError(f"no process is {name}")

    async def kill(self, service: str) -> None:
        """kill -9, and wait until it is gone."""
        process = self.service(service)
        process.send_signal(signal.SIGKILL)
        await until_gone([process])

    async def stop(self) -> int:
        """SIGTERM to `up`; returns its exit code once every child is gone."""
        if self.process is None:
            return 0
        if self.process.returncode is not None:
            return self.process.returncode
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        code = await within(self.process.wait(), "`redrive up` stops")
        await until_gone(children)
        return code

    def address(self, name: str) -> str:
        for line in (self.folder / ".redrive" / "env").read_text().splitlines():
            key, _, value = line.removeprefix("export ").partition("=")
            if key == name:
                return value
        raise KeyError(name)

    async def redrive(self, *arguments: str, stdin: bytes | None = None, expect: int | None = 0) -> tuple[int, str]:
        """Run a command here; returns (exit code, standard output)."""
        process = await forks.redrive(
            *arguments, cwd=self.folder, env=self.environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        out, err = await within(process.communicate(stdin), f"redrive {' '.join(arguments)}")
        code = process.returncode or 0
        assert expect is None or code == expect, f"redrive {arguments}: exit {code}\n{out.decode()}\n{err.decode()}"
        return code, out.decode() + (err.decode() if code else "")

    async def redrive_json(self, *arguments: str) -> Any:
        _, out = await self.redrive(*arguments, "--json")
        return json.loads(out)


async def until_gone(processes: list[psutil.Process]) -> None:
    await until(lambda: not [one for one in processes if one.is_running() and one.status() != "zombie"], "they end")


def last_lines(server_logs: Sequence[Path]) -> dict[str, str]:
    """Of the servers' logs and of every log of the installations of this test, by name: what a failure shows."""
    paths = list(server_logs)
    for installation in _installations:
        logs = installation.folder / ".redrive" / "logs"
        paths += [installation.folder / "up.log", *sorted(logs.glob("*.log")), *sorted(logs.glob("*.json"))]
    return {
        str(path): "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:])
        for path in paths
        if path.exists()
    }


async def metric(installation: Installation, service: str, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{installation.url(service)}/metrics") as response:
        text = await response.text()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


async def refuse_reload(installation: Installation, service: str, failures: int) -> None:
    """SIGHUP, and wait until so many have been refused; the process is the same."""
    pid = installation.service(service).pid
    installation.service(service).send_signal(signal.SIGHUP)
    async with limit(f"{service} refuses the new configuration"):
        while await metric(installation, service, "redrive_reload_failures_total") != failures:
            await asyncio.sleep(0.1)
    assert installation.service(service).pid == pid
