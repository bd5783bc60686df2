"""Invariants 1, 7 and 9 when a server goes away: pause, say so, skip nothing, dead-letter nothing."""

import asyncio
import contextlib
import json
import signal
import time
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest

from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, write
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import limit


async def dead_letters(installation: Installation) -> float:
    return await installation.metric("processors", "redrive_dead_letters_total")


@pytest.mark.thorough
async def test_while_postgres_is_down_ingest_accepts_and_afterwards_every_row_arrives(embedded: Installation) -> None:
    world = write(Author(7, start=int(time.time()) - 200_000), 25)
    provider = Provider(embedded.ingest_url)
    third = len(world.webhooks) // 3
    await provider.deliver_all(world.webhooks[:third])

    # Stopped, not killed: connections hang rather than break, which is the harder half; then killed as well.
    postgres = embedded.service("postgres")
    family = [postgres, *postgres.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    await provider.deliver_all(world.webhooks[third : 2 * third])
    found = await embedded.until_ready("processors", expect=False)
    assert found["checks"]["database"] is False
    assert found["checks"]["broker"] is True
    for process in family:
        process.send_signal(signal.SIGKILL)
    await provider.deliver_all(world.webhooks[2 * third :])
    assert provider.done.retries == 0, "the ingress needs no database"

    # `up` starts Postgres again; the processors go on by themselves.
    await embedded.until_ready("processors")
    connection = await asyncpg.connect(embedded.address("DATABASE_URL"))
    try:
        await until_folded(connection, world.events)
        await assert_tables_are_the_story(connection, world)
        assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE status = 'dead'") == 0
    finally:
        await connection.close()
    assert await dead_letters(embedded) == 0


async def test_while_kafka_is_away_deliveries_are_spooled_and_a_kill_loses_none(embedded: Installation) -> None:
    """Stopped, not killed: the broker's connections hang rather than break, which is the harder half."""
    world = write(Author(8, start=int(time.time()) - 200_000), 15)
    provider = Provider(embedded.ingest_url)
    third = len(world.webhooks) // 3
    await provider.deliver_all(world.webhooks[:third])
    kafka = embedded.service("kafka")
    kafka.suspend()
    await provider.deliver_all(world.webhooks[third : 2 * third])
    assert provider.done.retries == 0, "nobody had to send again"
    assert provider.done.statuses["spooled"] > 0

    await embedded.kill("ingest")
    # It starts again without its broker, and says that it is ready: turning deliveries away would lose them.
    await provider.deliver_all(world.webhooks[2 * third :])
    found = await embedded.until_ready("ingest")
    assert found["checks"] | {"broker": False, "dedupe": False, "spool": True} == found["checks"]
    told = (embedded.folder / ".redrive/logs/up.log").read_text().splitlines()
    (restart,) = [line for line in map(json.loads, told) if line["action"] == "supervise"]
    assert (restart["outcome"], restart["child"], restart["exit_code"]) == ("restarted", "ingest", -signal.SIGKILL)
    assert restart["time"]
    await assert_a_full_disk_is_told_before_a_delivery_meets_it(embedded)

    kafka.resume()
    connection = await asyncpg.connect(embedded.address("DATABASE_URL"))
    try:
        await until_folded(connection, world.events)
        await assert_tables_are_the_story(connection, world)
    finally:
        await connection.close()
    assert await spooled(embedded) == 0


async def assert_a_full_disk_is_told_before_a_delivery_meets_it(installation: Installation) -> None:
    """No process of the ingress can write to any file, which is what it sees of a disk that is full."""
    processes = [installation.service("ingest"), *installation.service("ingest").children(recursive=True)]
    before = sorted(installation.folder.glob(".redrive/spool/*/segment-*"))
    for process in processes:
        process.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
    found = await installation.until_ready("ingest", expect=False)
    assert (found["checks"]["broker"], found["checks"]["spool"]) == (False, False)
    _, answers = await installation.redrive("send", "google_calendar", "--count", "20", "--json", expect=1)
    assert json.loads(answers)["statuses"] == {"503": 20}
    assert sorted(installation.folder.glob(".redrive/spool/*/segment-*")) == before
    for process in processes:
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    found = await installation.until_ready("ingest")
    assert found["checks"]["spool"] is True


@pytest.mark.thorough
async def test_a_disabled_source_stays_disabled_when_the_ingress_starts_without_its_broker(tmp_path: Path) -> None:
    installation = Installation(tmp_path, **SECRETS, INGEST_WORKERS="2")
    try:
        await installation.up()
        await installation.redrive_json("sources", "disable", "stripe", "--reason", "the account was closed")
        heard = tmp_path / ".redrive" / "disabled-sources.json"
        await installation.until(lambda: heard.exists() and "stripe" in heard.read_text(), "the ingress has heard it")
        kafka = installation.service("kafka")
        kafka.suspend()
        await installation.kill("ingest")
        found = await installation.until_ready("ingest")
        assert found["checks"]["broker"] is False
        _, answers = await installation.redrive("send", "stripe", "--count", "20", "--json", expect=1)
        assert json.loads(answers)["statuses"] == {"410": 20}
        kafka.resume()
        await installation.redrive_json("sources", "enable", "stripe")
        await installation.until(lambda: "stripe" not in heard.read_text(), "the ingress has heard it")
        await installation.redrive("send", "stripe", "--wait")
    finally:
        await installation.stop()


@pytest.mark.thorough
async def test_who_waits_for_rows_waits_for_those_of_spooled_samples_too(embedded: Installation) -> None:
    kafka = embedded.service("kafka")
    kafka.suspend()
    for command in ("check", "topics"):
        _, error = await embedded.redrive(command, "--json", expect=69)
        assert "silent for" in json.loads(error)["message"]
    sending = asyncio.create_task(embedded.redrive_json("send", "stripe", "--count", "4", "--wait"))
    async with limit("four records in the spool"):
        while await spooled(embedded) < 4:
            await asyncio.sleep(0.05)
    assert not sending.done(), "no row can be there yet"
    kafka.resume()
    sent = await sending
    assert (sent["accepted"], sent["spooled"], len(sent["records"])) == (4, 4, 4)
    connection = await asyncpg.connect(embedded.address("DATABASE_URL"))
    try:
        assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE source = 'stripe'") == 4
    finally:
        await connection.close()


@pytest.mark.thorough
async def test_idle_connections_do_not_take_the_files_that_the_spool_needs(embedded: Installation) -> None:
    assert embedded.process is not None
    # Who `up` starts from now on may open no more.
    psutil.Process(embedded.process.pid).rlimit(psutil.RLIMIT_NOFILE, (256, 400))
    await embedded.kill("ingest")
    await embedded.until_ready("ingest")
    assert embedded.service("ingest").rlimit(psutil.RLIMIT_NOFILE) == (400, 400)
    provider = Provider(embedded.ingest_url)
    first, *others = write(Author(10, start=int(time.time()) - 200_000), 5).webhooks
    kafka = embedded.service("kafka")
    kept = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
    async with kept as session, contextlib.AsyncExitStack() as idle:
        assert await provider.post(session, first, int(time.time())) == 200
        for _ in range(600):
            _, writer = await asyncio.open_connection("127.0.0.1", embedded.ports["ingest"])
            idle.callback(writer.close)
        kafka.suspend()
        answers = [await provider.post(session, webhook, int(time.time())) for webhook in others]
    assert answers == [200] * len(others), "the connection from before is served, and the spool has its file"
    kafka.resume()


async def spooled(installation: Installation) -> float:
    return await installation.metric("ingest", "redrive_ingest_spool_records")


@pytest.mark.thorough
async def test_without_a_spool_nothing_is_answered_2xx_while_kafka_is_down_and_afterwards_nothing_is_missing(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path, **SECRETS, SPOOL_MAX_BYTES="0")
    try:
        await installation.up()
        world = write(Author(8, start=int(time.time()) - 200_000), 10)
        provider = Provider(installation.ingest_url)
        half = len(world.webhooks) // 2
        await provider.deliver_all(world.webhooks[:half])
        await installation.kill("kafka")
        sending = asyncio.create_task(provider.deliver_all(world.webhooks[half:]))
        await installation.until(lambda: provider.done.retries > 5, "deliveries meet the outage")
        await sending
        assert provider.done.statuses["spooled"] == 0
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        try:
            await until_folded(connection, world.events)
            await assert_tables_are_the_story(connection, world)
        finally:
            await connection.close()
    finally:
        await installation.stop()
