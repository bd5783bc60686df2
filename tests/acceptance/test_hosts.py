"""Invariant 4 across hosts: what one host appended, the other answers `duplicate`; and tables are exact in any case."""

import asyncio
import contextlib
import itertools
import struct
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from deploy.topics import Topics
from ingest.dedupe.store import Chunk
from replay.log.reader import LogReader
from schemas.cluster import Cluster
from schemas.topics import SIDE_CONFIG, WINDOW
from tests.support import signing
from tests.support.processes import Installation
from tests.support.records import payment
from tests.support.waiting import WAIT_SECONDS, limit

TOPIC: Final = "webhooks.stripe"
IDS: Final = "redrive_ingest_dedupe_ids"
FAILURES: Final = "redrive_ingest_dedupe_share_failures_total"
MARKERS: Final = itertools.count(10_000)
GARBAGE: Final = (
    b"garbage",
    b"",
    # With a checksum that is right.
    struct.pack(">4sIII", b"RDW1", 2, 0, zlib.crc32(b"{]")) + b"{]",
    struct.pack(">4sIII", b"RDW1", 2, 0, zlib.crc32(b"[]")) + b"[]",
    Chunk({TOPIC: b"no entries"}, {}, 0).encode(),
    Chunk({TOPIC: b"\xff" * 52}, {}, 0).encode(),
    Chunk({f"webhooks.{'x' * 200}": b"\0" * 52}, {}, 0).encode(),
)
UNREADABLE: Final = 4
"""Of these; the others are chunks, with entries that can't be."""


@pytest.fixture
async def first(tmp_path: Path, servers: dict[str, str]) -> AsyncIterator[Installation]:
    """`redrive up`: a host with the log, the tables and an ingress."""
    folder = tmp_path / "first"
    folder.mkdir()
    found = Installation(folder, **servers, **signing.SECRETS)
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


@pytest.fixture
def second(first: Installation, tmp_path: Path) -> Installation:
    """Another host on the same log, with a folder and a port of its own: `serving("ingest")` starts it."""
    folder = tmp_path / "second"
    folder.mkdir()
    servers = first.address("KAFKA_BOOTSTRAP_SERVERS")
    return Installation(folder, **signing.SECRETS, KAFKA_BOOTSTRAP_SERVERS=servers)


@asynccontextmanager
async def admin(host: Installation) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=host.address("KAFKA_BOOTSTRAP_SERVERS"))
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def deliver(host: Installation, numbers: range) -> dict[int, tuple[str, str]]:
    """{number: (status, location)}"""

    async def post(session: aiohttp.ClientSession, number: int) -> tuple[str, str]:
        body = payment(number)
        headers = signing.stripe(body, int(time.time()))
        async with session.post(f"{host.ingest_url}/webhooks/stripe", data=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            return (await response.json())["status"], response.headers["Redrive-Record"]

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS)) as session:
        answers = await asyncio.gather(*(post(session, number) for number in numbers))
    return dict(zip(numbers, answers, strict=True))


async def accept(host: Installation, numbers: range) -> dict[int, str]:
    answers = await deliver(host, numbers)
    assert {status for status, _ in answers.values()} == {"accepted"}
    return {number: location for number, (_, location) in answers.items()}


async def assert_known(host: Installation, locations: dict[int, str], numbers: range) -> None:
    assert await deliver(host, numbers) == {number: ("duplicate", locations[number]) for number in numbers}


async def until_heard(speaker: Installation, listener: Installation) -> int:
    """Until the listener knows a fresh delivery of the speaker's, and with it all that it was told before. A copy that
    comes too early is a record of its own, so each try has a new one. Returns how many there were.
    """
    first = number = next(MARKERS)
    async with limit("the other host learns of a delivery"):
        while True:
            ids = await listener.metric("ingest", IDS)
            await accept(speaker, range(number, number + 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while await listener.metric("ingest", IDS) == ids:
                        await asyncio.sleep(0.05)
            if (await deliver(listener, range(number, number + 1)))[number][0] == "duplicate":
                return number - first + 1
            number = next(MARKERS)


async def keys_on_the_log(host: Installation) -> Counter[str]:
    found: Counter[str] = Counter()
    async with LogReader(Cluster(host.address("KAFKA_BOOTSTRAP_SERVERS"))) as reader:
        async for _, records in reader.read(await reader.tails(TOPIC, 2**62)):
            found.update((record.key or b"").decode() for record in records)
    return found


async def assert_tables_hold(host: Installation, payments: int) -> None:
    connection = await asyncpg.connect(host.address("DATABASE_URL"))
    try:
        async with limit("the fold"):
            while await host.metric("processors", "redrive_processors_records_total") < sum(
                (await keys_on_the_log(host)).values()
            ):
                await asyncio.sleep(0.2)
        row = await connection.fetchrow("SELECT count(*) AS payments, sum(amount) AS amount FROM payments")
        assert row is not None
        assert tuple(row) == (payments, 100 * payments)
    finally:
        await connection.close()


async def test_a_copy_at_another_host_is_a_duplicate_once_that_host_has_heard(
    first: Installation, second: Installation
) -> None:
    async with second.serving("ingest"):
        markers = await until_heard(first, second) + await until_heard(second, first)
        locations = await accept(first, range(20))
        markers += await until_heard(first, second)
        await assert_known(second, locations, range(20))
        # And the other way round.
        locations |= await accept(second, range(20, 40))
        markers += await until_heard(second, first)
        await assert_known(first, locations, range(20, 40))
    # While the second host is away it hears nothing, and reads it from the log when it comes back.
    locations |= await accept(first, range(40, 60))
    async with second.serving("ingest"):
        await assert_known(second, locations, range(60))
        found = await keys_on_the_log(first)
        assert [found[f"evt_{one}"] for one in range(60)] == [1] * 60
        # Copies at the same instant may become a record at each host, and are one row.
        await asyncio.gather(*(deliver(host, range(60, 100)) for host in (first, second)))
    found = await keys_on_the_log(first)
    assert all(1 <= found[f"evt_{one}"] <= 2 for one in range(60, 100))
    await assert_tables_hold(first, 100 + markers)


@pytest.mark.thorough
async def test_without_the_topic_or_with_garbage_on_it_hosts_go_on(first: Installation, second: Installation) -> None:
    async with admin(first) as client:
        await client.delete_topics([WINDOW])
        async with limit("the topic is gone"):
            while WINDOW in await client.list_topics():
                await asyncio.sleep(0.1)
    async with second.serving("ingest"):
        while not await second.metric("ingest", FAILURES):
            await asyncio.sleep(0.1)
        locations = await accept(second, range(10))
        await assert_known(second, locations, range(10))

        servers = first.address("KAFKA_BOOTSTRAP_SERVERS")
        async with Topics(Cluster(servers)) as topics:
            await topics.create({WINDOW: SIDE_CONFIG[WINDOW]}, 1, 1)
        await until_heard(first, second)
        failures = await second.metric("ingest", FAILURES)
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for value in GARBAGE:
                await producer.send_and_wait(WINDOW, value, key=b"nobody", partition=0)
        # What came after the garbage is heard, so the garbage was met.
        locations = await accept(first, range(10, 20))
        await until_heard(first, second)
        assert await second.metric("ingest", FAILURES) == failures + UNREADABLE
        await assert_known(second, locations, range(10, 20))
        assert (await second.until_ready("ingest"))["ready"]
