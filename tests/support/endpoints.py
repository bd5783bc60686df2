"""Where a replay may send to: a server of the test's own, and names that resolve as the test says."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from replay.targets.addresses import AllowedResolver
from replay.targets.document import HttpTarget
from replay.targets.http import HttpSender, Patience
from tests.support.records import FakeRecord, payment, record

QUICK = Patience(
    request_seconds=0.5, connect_seconds=0.5, attempts=3, first_wait_seconds=0.001, longest_wait_seconds=0.01
)


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Names(AbstractResolver):
    """Answers what it is told to, one answer after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = iter(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in next(self._answers)
        ]

    async def close(self) -> None:
        return None


def records(count: int) -> list[FakeRecord]:
    return [record("webhooks.stripe", "stripe", payment(number), offset=number) for number in range(count)]


@asynccontextmanager
async def endpoint(url: str, patience: Patience = QUICK, **target: Any) -> AsyncIterator[HttpSender]:
    async with HttpSender(HttpTarget(url, **target), "replay-1", AllowedResolver(()), {}, patience) as found:
        yield found
