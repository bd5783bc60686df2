"""Rebuilding in this process, on the real Kafka and Postgres, as the commands and the console wire it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from deploy.redriving import POOL_CONNECTIONS, rebuild_ports
from processors.projections.base import Event
from replay.audit import Author
from replay.rebuild import lifecycle
from replay.rebuild.flip import APPLY, ROLLBACK, flip, rollback_target
from replay.rebuild.fold import build
from replay.rebuild.follower import Follower
from replay.tables import generations
from replay.tables.generations import Generation, RebuildPorts
from schemas.billing import Payment
from schemas.facts import TABLES
from tests.conftest import Stack
from tests.support.runtimes import runtime_of
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

TESTER = Author("tester", "because")


@asynccontextmanager
async def rebuilding(stack: Stack, url: str, **changes: Any) -> AsyncIterator[RebuildPorts]:
    pool = await asyncpg.create_pool(url, min_size=0, max_size=POOL_CONNECTIONS)
    try:
        yield replace(rebuild_ports(runtime_of(stack, Path(), url), pool), **changes)
    finally:
        pool.terminate()


@asynccontextmanager
async def following(ports: RebuildPorts) -> AsyncIterator[None]:
    """As the console does."""
    task = asyncio.create_task(Follower(ports).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def with_a_bug(original: Callable[..., Any]) -> Callable[..., Iterator[Event]]:
    """A projection that takes payments for failed ones of ten times the amount."""

    def spoiled(fact: Any) -> Any:
        is_payment = isinstance(fact, Payment) and fact.amount is not None
        return replace(fact, amount=fact.amount * 10, status="failed") if is_payment else fact

    def project(*arguments: Any) -> Iterator[Event]:
        for event in original(*arguments):
            yield replace(event, facts=tuple(spoiled(fact) for fact in event.facts))

    return project


async def rebuild(ports: RebuildPorts, only: frozenset[str] | None = None) -> Generation:
    async with ports.pool.acquire() as connection:
        generation = await lifecycle.begin(connection, ports, only, TESTER)
    async with ports.open_log() as reader:
        await build(ports, generation, reader, lambda *_: None)
    async with ports.pool.acquire() as connection:
        await generations.note_ready(connection, generation.number)
    return generation


async def apply(ports: RebuildPorts, number: int, is_loss_accepted: bool = False) -> None:
    async with ports.open_log() as reader:
        await flip(ports, reader, number, APPLY, TESTER, is_loss_accepted)


async def rollback(ports: RebuildPorts, is_loss_accepted: bool = False) -> None:
    async with ports.pool.acquire() as connection:
        number = await rollback_target(connection)
    async with ports.open_log() as reader:
        await flip(ports, reader, number, ROLLBACK, TESTER, is_loss_accepted)


async def fold_as_control(stack: Stack, url: str, topic: str, offsets: int, folder: Path) -> dict[str, list[str]]:
    """A worker that never had a bug folds the topic up to where it ends now, into a database of its own. The rows."""
    connection = await asyncpg.connect(url)
    try:
        async with run_worker(stack, url, topic, f"{topic}-control", folder):
            await until(folded(connection, offsets), "the control run")
        return await fact_rows(connection, "gen_1")
    finally:
        await connection.close()


async def fact_rows(connection: Any, schema: str) -> dict[str, list[str]]:
    """Every row of every fact table, hidden columns included."""
    found = {}
    for table in TABLES:
        names = ", ".join(column.name for column in table.columns)
        rows = await connection.fetch(
            f"SELECT t::text FROM (SELECT {names} FROM {schema}.{table.name}) AS t ORDER BY 1"
        )
        found[table.name] = [row[0] for row in rows]
    return found


async def live_and_previous(connection: Any) -> tuple[int, int | None]:
    row = await connection.fetchrow("SELECT live, previous FROM redrive.generation")
    return row["live"], row["previous"]


async def positions_of(connection: Any, generation: int) -> dict[tuple[str, int], int]:
    rows = await connection.fetch(
        "SELECT topic, partition, next_offset FROM redrive.positions WHERE generation = $1", generation
    )
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def failed(connection: Any) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM payments WHERE status = 'failed'"))
