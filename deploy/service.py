"""What the service processes share: health pages, signals, waiting for a dependency."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from schemas.errors import Misconfigured, Unavailable

Readiness = Callable[[], Awaitable[dict[str, bool]]]


def health_routes(readiness: Readiness) -> list[web.RouteDef]:
    """`/healthz` (the process lives), `/readyz` (what it needs is there), `/metrics`."""

    async def healthz(_: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        checks = await readiness()
        is_ready = all(checks.values())
        return _json({"ready": is_ready, "checks": checks}, 200 if is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def listen(runner: web.BaseRunner, host: str, port: int, variable: str) -> int:
    """Bind and return the port. Raises `Misconfigured`, naming the variable that moves it."""
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise Misconfigured(f"{host}:{port} can't be bound ({error.strerror}); set {variable}") from error
    return int(runner.addresses[0][1])


def tune_garbage_collection() -> None:
    """After start-up: what lives for good is not looked at again, and young garbage is collected in larger lots.

    A seventh of a busy service's time went into collections that found next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT: stop taking work, finish what is begun."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


async def wait_for(connect: Callable[[], Awaitable[None]], seconds: float, stop: asyncio.Event) -> None:
    """Try until it works. Raises the last `Unavailable` after `seconds`; returns early when asked to stop."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not stop.is_set():
        try:
            await connect()
            return
        except Unavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.5)
