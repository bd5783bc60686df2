"""Invariant 4 across processes: copies that arrive at the same instant, anywhere on the host, are one record."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from replay.log.reader import LogReader
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from tests.conftest import Stack
from tests.support import signing
from tests.support.processes import Installation
from tests.support.records import payment
from tests.support.waiting import WAIT_SECONDS, limit

WORKERS = 3
TOML = """
[sources.limited]
provider = "stripe"
secrets = ["whsec_of_limited"]
requests_per_second = 0.001
burst = 20
"""


@pytest.fixture
async def installation(tmp_path: Path, servers: dict[str, str]) -> AsyncIterator[Installation]:
    """`redrive up` with several ingest processes."""
    (tmp_path / "redrive.toml").write_text(TOML)
    found = Installation(tmp_path, **servers, **signing.SECRETS, INGEST_WORKERS=str(WORKERS))
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


async def post(session: aiohttp.ClientSession, url: str, body: bytes, secret: str | None = None) -> str:
    """The status in the answer, or why there was none. Each on a connection of its own, so to any process."""
    headers = signing.stripe(body, int(time.time()), *([secret] if secret else []))
    try:
        async with session.post(url, data=body, headers=headers) as response:
            answer = await response.json()
            return str(answer.get("code") or answer["status"])
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


def client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=200), timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS)
    )


async def keys_on_the_log(installation: Installation, topic: str) -> Counter[str]:
    found: Counter[str] = Counter()
    async with LogReader(Cluster(installation.address("KAFKA_BOOTSTRAP_SERVERS"))) as reader:
        async for _, records in reader.read(await reader.tails(topic, 2**62)):
            found.update((record.key or b"").decode() for record in records)
    return found


async def test_copies_at_the_same_instant_are_one_record_whichever_process_they_reach(
    installation: Installation,
) -> None:
    url = f"{installation.ingest_url}/webhooks/stripe"
    assert len(installation.workers()) == WORKERS
    answers: Counter[str] = Counter()
    async with client() as session:
        for number in range(40):
            body = payment(number)
            these = Counter(await asyncio.gather(*(post(session, url, body) for _ in range(12))))
            # A log that takes too long is no fault: those that wait then hear that the delivery is spooled.
            assert these["accepted"] == 1 or these["spooled"]
            answers.update(these)
    assert answers.keys() <= {"accepted", "duplicate", "spooled"}
    async with limit("what was spooled is on the log"):
        while (keys := await keys_on_the_log(installation, "webhooks.stripe")).total() < 40:
            await asyncio.sleep(0.1)
    assert keys == {f"evt_{n}": 1 for n in range(40)}
    # Any process's page speaks for all of them.
    async with limit("the metrics of all processes"):
        while await installation.metric("ingest", "redrive_ingest_requests_total", 'source="stripe"') != 480:
            await asyncio.sleep(0.1)


@pytest.mark.thorough
async def test_a_process_that_is_killed_blocks_and_eats_nothing(installation: Installation) -> None:
    url = f"{installation.ingest_url}/webhooks/stripe"
    numbers = list(range(600))
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    order = random.Random(seed)
    killed: set[int] = set()

    async def kill_some() -> None:
        for _ in range(4):
            victim = order.choice([one for one in installation.workers() if one.pid not in killed])
            killed.add(victim.pid)
            victim.kill()
            async with limit("a process in the killed one's place"):
                while len([one for one in installation.workers() if one.pid not in killed]) < WORKERS:
                    await asyncio.sleep(0.05)

    async def deliver(session: aiohttp.ClientSession, slots: asyncio.Semaphore, number: int) -> None:
        async with slots, limit("the delivery is taken"):
            while await post(session, url, payment(number)) not in ("accepted", "duplicate", "spooled"):
                await asyncio.sleep(0.1)

    async with client() as session:
        killing = asyncio.create_task(kill_some())
        slots = asyncio.Semaphore(16)
        while not killing.done():
            await asyncio.gather(*(deliver(session, slots, number) for number in numbers))
        await killing
    async with limit("an empty spool"):
        # What was appended slowly may be in a spool as well; the drain finds out.
        while await installation.metric("ingest", "redrive_ingest_spool_records"):
            await asyncio.sleep(0.1)
    found = await keys_on_the_log(installation, "webhooks.stripe")
    assert set(found) == {f"evt_{number}" for number in numbers}
    # An append whose answer died with its process is in doubt, and may have been made again.
    assert sum(found.values()) <= len(numbers) + 16 * len(killed)


@pytest.mark.thorough
async def test_orphans_finish_before_their_parents_successor_starts_others(
    stack: Stack, installation: Installation
) -> None:
    """While the log is away they take their time, and hold the port and their spools: it must wait, not give up."""
    url = f"{installation.ingest_url}/webhooks/stripe"
    kafka = psutil.Process(stack.kafka.pid)
    kafka.suspend()
    try:
        async with client() as session, limit("the successor serves"):
            assert await post(session, url, payment(0)) == "spooled"
            orphans = installation.workers()
            await installation.kill("ingest")
            while len([one for one in installation.workers() if one not in orphans]) < WORKERS:
                await asyncio.sleep(0.05)
            assert not any(is_at_work(orphan) for orphan in orphans)
            while await post(session, url, payment(1)) != "spooled":
                await asyncio.sleep(0.05)
    finally:
        kafka.resume()
    found = Counter[str]()
    async with limit("both records on the log"):
        while found != {"evt_0": 1, "evt_1": 1}:
            # A broker that was just resumed may still be electing its controller.
            with contextlib.suppress(Unavailable):
                found = await keys_on_the_log(installation, "webhooks.stripe")
            await asyncio.sleep(0.1)


def is_at_work(process: psutil.Process) -> bool:
    """One that has ended may still be in the list of processes, for a parent that does not ask."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_a_rate_holds_for_all_processes_together(installation: Installation) -> None:
    url = f"{installation.ingest_url}/webhooks/limited"
    async with client() as session:
        answers = Counter(
            await asyncio.gather(*(post(session, url, payment(number), "whsec_of_limited") for number in range(60)))
        )
        assert answers == {"accepted": 20, "too_many_requests": 40}
        other = [await post(session, f"{installation.ingest_url}/webhooks/stripe", payment(n)) for n in range(10)]
        assert other == ["accepted"] * 10
