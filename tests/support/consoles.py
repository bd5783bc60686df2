"""The console, in this process or as one of its own, on servers that are there; and what it calls."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from deploy.embedded.ports import free_ports
from deploy.services.console import ConsoleService, Pools
from deploy.wiring import Runtime, load_file
from schemas.settings import FileConfig, Settings
from tests.conftest import Stack
from tests.support import forks, signing
from tests.support.runtimes import runtime_of, signals
from tests.support.waiting import limit

KEY = {"X-Admin-API-Key": "admin"}
Call = Callable[..., Awaitable[tuple[int, Any]]]
"""(method, path, JSON) -> (status, document)."""


@dataclass
class Consoles:
    """Of one installation, with one Stripe source."""

    stack: Stack
    database_url: str
    folder: Path
    source: str

    def environment(self, port: int = 0) -> dict[str, str]:
        return {
            "PATH": "",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "KAFKA_BOOTSTRAP_SERVERS": self.stack.servers,
            "DATABASE_URL": self.database_url,
            "ADMIN_API_KEY": "admin",
            "CONSOLE_PORT": str(port),
            "REDRIVE_OPERATOR": "ada",
        }

    def configure(self) -> None:
        (self.folder / "redrive.toml").write_text(
            f'[sources.{self.source}]\nprovider = "stripe"\nsecrets = ["{signing.STRIPE}"]\n'
        )

    def runtime(self) -> Runtime:
        file = load_file(self.folder / "redrive.toml")
        return runtime_of(self.stack, self.folder / ".redrive", self.database_url, file, REDRIVE_OPERATOR="ada")

    async def start(self) -> tuple[forks.Process, str]:
        (port,) = free_ports(1)
        self.configure()
        process = await forks.redrive("console", cwd=self.folder, env=self.environment(port))
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session, limit("the console is ready"):
            while True:
                assert process.returncode is None
                try:
                    async with session.get(f"{url}/readyz") as response:
                        if response.status == 200:
                            return process, url
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def command(self, *arguments: str) -> forks.Process:
        return await forks.redrive(*arguments, cwd=self.folder, env=self.environment(), stdout=PIPE, stderr=PIPE)


def console_app() -> web.Application:
    """Its routes, not to be called."""
    nothing: Any = None
    settings = Settings(kafka_bootstrap_servers="localhost:1", database_url=SecretStr("postgres://localhost:1"))
    return ConsoleService(Runtime(settings, FileConfig(), {}), Pools(*[nothing] * 5), signals()).app


@asynccontextmanager
async def serving_console(runtime: Runtime, *routes: web.RouteDef) -> AsyncIterator[str]:
    """The URL of a console in this process, which also serves `routes`. Nobody runs what is put on the ledger."""
    async with ConsoleService.open(runtime, signals(), routes) as service:
        yield f"http://127.0.0.1:{service.port}"


@asynccontextmanager
async def running_console(consoles: Consoles) -> AsyncIterator[str]:
    """The URL of a console in this process, at work."""
    consoles.configure()
    asked = signals()
    async with ConsoleService.open(consoles.runtime(), asked) as service:
        working = asyncio.create_task(service.work())
        try:
            yield f"http://127.0.0.1:{service.port}"
        finally:
            asked.stop.set()
            await working


async def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, document)"""
    async with (
        aiohttp.ClientSession(url, headers=KEY) as session,
        session.request(method, path, json=body) as response,
    ):
        return response.status, await response.json(content_type=None)
