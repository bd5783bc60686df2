"""The console: as a process of its own, on servers that are there, and what it calls."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from deploy.embedded.ports import free_ports
from replay.api.app import create_console
from replay.api.events import event_routes
from replay.api.operations import Operations
from replay.api.route import register
from replay.log.reader import LogReader
from schemas.cluster import Cluster
from tests.conftest import Stack
from tests.support import forks, signing
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

    async def start(self) -> tuple[forks.Process, str]:
        (port,) = free_ports(1)
        (self.folder / "redrive.toml").write_text(
            f'[sources.{self.source}]\nprovider = "stripe"\nsecrets = ["{signing.STRIPE}"]\n'
        )
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


def operations(pool: Any, sources: Callable[[], Any]) -> Operations:
    """For routes that need nothing else."""
    nothing: Any = None
    return Operations(
        pool=pool,
        sources=sources,
        control=nothing,
        quarantine=nothing,
        desk=nothing,
        requeue=nothing,
        operator="ines",
        proofs=nothing,
        rebuilding=nothing,
        scratches=nothing,
    )


@asynccontextmanager
async def event_pages(pool: Any, cluster: Cluster) -> AsyncIterator[str]:
    """The URL of an application in this process that serves events and nothing else."""
    operations: Any = SimpleNamespace(routes=list, operator="the-host")
    app = create_console(pool, SecretStr("admin"), operations)
    register(app, event_routes(pool, lambda: LogReader(cluster), dict))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_console(consoles: Consoles) -> AsyncIterator[str]:
    process, url = await consoles.start()
    try:
        yield url
    finally:
        process.terminate()
        await process.wait()


async def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, document)"""
    async with (
        aiohttp.ClientSession(url, headers=KEY) as session,
        session.request(method, path, json=body) as response,
    ):
        return response.status, await response.json(content_type=None)
