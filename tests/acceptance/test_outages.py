"""Invariants 1, 7 and 9 when a server goes away: pause, say so, skip nothing, dead-letter nothing."""

import asyncio
import signal
import time

import aiohttp
import asyncpg

from tests.acceptance.test_story import assert_tables_are_the_story, until_folded
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.story import Author, write


async def dead_letters(installation: Installation) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{installation.url('processors')}/metrics") as response:
        return sum(
            float(line.rpartition(" ")[2])
            for line in (await response.text()).splitlines()
            if line.startswith("redrive_dead_letters_total")
        )  # type: ignore[return-value]


async def test_while_postgres_is_down_ingest_accepts_and_afterwards_every_row_arrives(
    installation: Installation,
) -> None:
    world = write(Author(7, start=int(time.time()) - 200_000), 25)
    provider = Provider(installation.ingest_url)
    third = len(world.webhooks) // 3
    await provider.deliver_all(world.webhooks[:third])

    # Stopped, not killed: connections hang rather than break, which is the harder half; then killed as well.
    postgres = installation.service("postgres")
    family = [postgres, *postgres.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    await provider.deliver_all(world.webhooks[third : 2 * third])
    found = await installation.until_ready("processors", expect=False)
    assert found["checks"]["database"] is False
    assert found["checks"]["broker"] is True
    for process in family:
        process.send_signal(signal.SIGKILL)
    await provider.deliver_all(world.webhooks[2 * third :])
    assert provider.done.retries == 0, "the ingress needs no database"

    # `up` starts Postgres again; the processors go on by themselves.
    await installation.until_ready("processors")
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        await until_folded(installation, connection, world.events)
        await assert_tables_are_the_story(connection, world)
        assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE status = 'dead'") == 0
    finally:
        await connection.close()
    assert await dead_letters(installation) == 0


async def test_while_kafka_is_down_nothing_is_answered_2xx_and_afterwards_nothing_is_missing(
    installation: Installation,
) -> None:
    world = write(Author(8, start=int(time.time()) - 200_000), 10)
    provider = Provider(installation.ingest_url)
    half = len(world.webhooks) // 2
    await provider.deliver_all(world.webhooks[:half])
    await installation.kill("kafka")
    sending = asyncio.create_task(provider.deliver_all(world.webhooks[half:]))
    await installation.until(lambda: provider.done.retries > 5, "deliveries meet the outage")
    await sending
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        await until_folded(installation, connection, world.events)
        await assert_tables_are_the_story(connection, world)
    finally:
        await connection.close()
