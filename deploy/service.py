"""Parts that the service processes share: health pages, signals, waiting for a dependency."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, generate_latest

from deploy import plugins
from deploy.wiring import Runtime, adopt, load
from schemas.errors import Misconfigured, Unavailable, code_of
from schemas.masking import describe
from schemas.plugin_calls import call

log: Final = logging.getLogger("redrive.service")
RELOAD_FAILURES: Final = Counter("redrive_reload_failures", "Times that a changed configuration could not be used.")

Readiness = Callable[[], Awaitable[dict[str, bool]]]


Details = Callable[[], dict[str, Any]]
"""Further fields of `/readyz`, beside its checks."""


def no_details() -> dict[str, Any]:
    return {}


def health_routes(
    readiness: Readiness, registry: CollectorRegistry = REGISTRY, details: Details = no_details
) -> list[web.RouteDef]:
    """`/healthz` (the process lives), `/readyz` (what it needs is there), `/metrics`."""

    async def healthz(_: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        checks = await readiness()
        is_ready = all(checks.values())
        return _json({"ready": is_ready, "checks": checks, **details()}, 200 if is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def listen(runner: web.BaseRunner, host: str, port: int, variable: str, has_siblings: bool = False) -> int:
    """Bind, with siblings to one port all together, and return it. Raises `Misconfigured`, naming the variable that
    moves it.
    """
    await runner.setup()
    site = web.TCPSite(runner, host, port, reuse_port=has_siblings)
    try:
        await site.start()
    except OSError as error:
        raise Misconfigured(f"{host}:{port} can't be bound ({error.strerror}); set {variable}") from error
    return int(runner.addresses[0][1])


TELL_SECONDS: Final = 30.0
"""The interval of log lines while a service waits for a dependency."""


def stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT: stop taking work, finish what is begun."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if not event.is_set():
            log.info("asked to stop, by %s", number.name, extra={"action": "stop", "outcome": "begun"})
        event.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return event


@contextmanager
def told() -> Iterator[None]:
    """The first line of a service's process, and its last, which says why it ends."""
    begun = {"action": "start", "outcome": "begun", "pid": os.getpid(), "version": version("redrive")}
    log.info("the service starts", extra=begun)
    try:
        yield
    except Exception as error:
        _say_end(error)
        raise
    log.info("the service has stopped", extra={"action": "stop", "outcome": "done"})


def _say_end(error: Exception) -> None:
    line = {"action": "stop", "outcome": "failed", "code": code_of(error, "internal_error")}
    log.error("the service ends: %s", describe(error), extra=line)


def reload_event() -> asyncio.Event:
    """Set by SIGHUP: read the configuration again."""
    event = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, event.set)
    return event


class Signals(NamedTuple):
    """The signals that a service listens to."""

    stop: asyncio.Event
    reload: asyncio.Event

    @classmethod
    def of_process(cls) -> "Signals":
        return cls(stop_event(), reload_event())


_sources_of_file: Final[set[str]] = set()
"""Those that this process took from redrive.toml when it last read it."""


def remember(runtime: Runtime) -> None:
    """Keep the start's environment, so that a reload sees what would be lost."""
    _sources_of_file.clear()
    _sources_of_file.update(runtime.file.sources)


def load_again() -> Runtime:
    """The configuration as it is now. Raises `Misconfigured`, and nothing else: no file may end a running service.

    A file that is gone or empty is refused where sources came from it: that is how one looks while it is written.
    """
    with plugins.put_back_if_refused():
        try:
            runtime = call(load)
        except Misconfigured:
            raise
        except Exception as error:
            raise Misconfigured(f"the configuration can't be read: {describe(error)}") from error
        if not runtime.sources:
            raise Misconfigured("it would leave no source at all")
        if _sources_of_file and not runtime.file.model_fields_set:
            lost = ", ".join(sorted(_sources_of_file))
            raise Misconfigured(f"{runtime.settings.config} is empty, or is not there; to do without {lost}, restart")
    remember(runtime)
    adopt(runtime)
    return runtime


def read_again() -> Runtime | None:
    """The configuration as it is now; None where it can't work, and the old one stays."""
    try:
        runtime = load_again()
    except Misconfigured as error:
        reload_refused(error)
        return None
    log.info(
        "the configuration was read again",
        extra={"action": "reload", "outcome": "done", "sources": sorted(runtime.sources)},
    )
    return runtime


def reload_refused(error: BaseException) -> None:
    RELOAD_FAILURES.inc()
    log.error(
        "the new configuration can't be used, and the old one stays: %s",
        error,
        extra={"action": "reload", "outcome": "refused", "code": "misconfigured"},
    )


async def wait_for_signal(stop: asyncio.Event, reload: asyncio.Event) -> bool:
    """True when it is time to reload, which it then no longer is; False when it is time to stop."""
    waiting = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(reload.wait())}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    reload.clear()
    return not stop.is_set()


async def wait_for(connect: Callable[[], Awaitable[None]], seconds: float, stop: asyncio.Event) -> None:
    """Try until it works, and say now and then why it does not. Raises the last `Unavailable` after `seconds`; returns
    early when asked to stop.
    """
    clock = asyncio.get_running_loop().time
    began = next_line = clock()
    deadline = began + seconds
    while not stop.is_set():
        try:
            await connect()
            if next_line > began:
                waited = {"action": "start", "outcome": "back", "seconds": round(clock() - began, 1)}
                log.info("what it waited for is there", extra=waited)
            return
        except Unavailable as error:
            now = clock()
            if now > deadline:
                raise
            if now >= next_line:
                next_line = now + TELL_SECONDS
                log.warning("waiting: %s", error, extra={"action": "start", "outcome": "retry", "code": error.code})
            await asyncio.sleep(0.5)
