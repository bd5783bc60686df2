"""Invariants 1, 4 and 5 while the wall clock of every service jumps: whoever sets a clock must not cost an event."""

import asyncio
import os
import random
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from schemas.providers.base import TOLERANCE_SECONDS
from tests.support import clock, signing
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.records import payment
from tests.support.story import Author, write
from tests.support.tables import assert_tables_are_the_story, until_folded

pytestmark = pytest.mark.thorough


DAY = 86_400.0
JUMP_SECONDS = 0.05
FARTHEST = TOLERANCE_SECONDS - 60.0
"""At which a signature of now still holds."""


class Clock:
    """How far the services' wall clocks stand off, in seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, seconds: float) -> None:
        # In place: the services have mapped it.
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.write(struct.pack("<d", seconds))

    async def jump_about(self, order: random.Random) -> None:
        while True:
            self.set(order.uniform(-FARTHEST, FARTHEST))
            await asyncio.sleep(JUMP_SECONDS)


@pytest.fixture
def wall_clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
async def installation(tmp_path: Path, wall_clock: Clock) -> AsyncIterator[Installation]:
    """`redrive up` with two ingest processes, on a clock that can be set."""
    path = os.pathsep.join([str(Path(next(iter(clock.__path__)))), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = Installation(
        tmp_path, **signing.SECRETS, INGEST_WORKERS="2", PYTHONPATH=path, TEST_CLOCK_OFFSET=str(wall_clock.path)
    )
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


async def test_clocks_that_jump_about_lose_and_double_nothing(installation: Installation, wall_clock: Clock) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    order = random.Random(seed)
    world = write(Author(seed, start=int(time.time()) - 200_000), 20)
    # Every third comes twice, and copies may meet a window whose clock has gone back.
    sent = world.webhooks + world.webhooks[::3]
    order.shuffle(sent)
    provider = Provider(installation.ingest_url)
    jumping = asyncio.create_task(wall_clock.jump_about(order))
    await provider.deliver_all(sent)
    jumping.cancel()
    assert provider.done.retries == 0
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        await until_folded(connection, world.events)
        await assert_tables_are_the_story(connection, world)
        assert await connection.fetchval("SELECT count(*) FROM webhook_events") == len(world.events)
    finally:
        await connection.close()


async def test_a_clock_that_is_a_day_off_refuses_what_it_takes_for_old_and_takes_it_once_it_is_right(
    installation: Installation, wall_clock: Clock
) -> None:
    body = payment(1)
    url = f"{installation.ingest_url}/webhooks/stripe"

    async def post() -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=signing.stripe(body, int(time.time()))) as response,
        ):
            answer = await response.json()
            return response.status, str(answer.get("code") or answer["status"])

    for ahead in (DAY, -DAY):
        wall_clock.set(ahead)
        assert await post() == (401, "timestamp_outside_tolerance")
    wall_clock.set(0)
    held = (await installation.redrive_json("quarantine", "list"))["sources"]["stripe"]
    assert [(one["reason"], one["deliveries"]) for one in held["minutes"]] == [("timestamp_outside_tolerance", 1)] * 2
    for offset, counts in (("1d", (1, 0, 1)), ("-1d", (0, 1, 0))):
        release = ("quarantine", "release", "--source", "stripe", "--clock-was-off", offset, "--reason", "a clock")
        done = await installation.redrive_json(*release)
        assert (done["released"], done["duplicates"], done["still_failing"]) == counts, offset
    # Released, so it is known: by the log, and not yet by the window.
    assert await post() == (200, "accepted")
    # The window's ages are by arrival, and this one comes from the future.
    wall_clock.set(-FARTHEST)
    assert await post() == (200, "duplicate")
