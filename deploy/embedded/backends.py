"""The Kafka and the Postgres of `redrive up`: those that are set, or embedded ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from deploy.embedded.embedded_kafka import EmbeddedKafka
from deploy.embedded.embedded_postgres import EmbeddedPostgres
from deploy.embedded.local import embedded_addresses, require_space
from deploy.terminal.output import err
from deploy.wiring import given_environment
from schemas.errors import Misconfigured


class Speaker(NamedTuple):
    """How `redrive up` speaks: of a step that is done, and of what a person should know."""

    step: Callable[[str], None]
    announce: Callable[[str], None]


@asynccontextmanager
async def backends(data: Path, stop: asyncio.Event, speaker: Speaker) -> AsyncIterator[dict[str, str]]:
    """Addresses of Kafka and Postgres: those that are set, else embedded ones for as long as the context lasts."""
    given, embedded = given_environment(), embedded_addresses(data)
    names = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    # A shell that sourced the generated file must not turn its addresses into servers of somebody else's.
    found = {name: given[name] for name in names if name in given and given[name] != embedded.get(name)}
    if len(found) == len(names):
        speaker.step("using the Kafka and Postgres that are set")
        yield found
        return
    if found:
        raise Misconfigured(f"{next(iter(found))} is set, but {next(n for n in names if n not in found)} is not")
    if given.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT") != "PLAINTEXT":
        raise Misconfigured("the embedded Kafka has no TLS and no login: unset KAFKA_SECURITY_PROTOCOL")
    require_space(data)
    postgres = EmbeddedPostgres(data / "postgres", data / "logs" / "postgres.log", speaker.announce)
    kafka = EmbeddedKafka(data / "kafka", data / "logs" / "kafka.log", speaker.announce)
    async with AsyncExitStack() as stack:
        with err.status("starting Postgres, and Kafka (the first time its jars are fetched: 43 MB) …"):
            stack.push_async_callback(postgres.stop)
            stack.push_async_callback(kafka.stop)
            await _unless_stopped(_start_both(postgres, kafka), stop)
        speaker.step(f"Postgres and Kafka ({kafka.bootstrap_servers}) are up")
        yield {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "DATABASE_URL": postgres.url()}


async def _start_both(postgres: EmbeddedPostgres, kafka: EmbeddedKafka) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(postgres.start())
        group.create_task(kafka.start())


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Do the work, or drop it when asked to stop meanwhile. A group's first error is the one to tell."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        raise StartStopped from None
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


class StartStopped(Exception):
    """Asked to stop before everything had started."""
