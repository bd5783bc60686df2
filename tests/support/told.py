"""A story told in parts, to an installation that may break in between."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, Webhook, write
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import limit


class Told:
    """A story told in parts."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self.installation = installation
        self.author = Author(seed, start=int(time.time()) - 200_000)
        self.provider = Provider(installation.ingest_url)

    def more(self, stories: int) -> list[Webhook]:
        """New webhooks, out of order."""
        known = len(self.author.world.webhooks)
        write(self.author, stories)
        new = self.author.world.webhooks[known:]
        self.author.random.shuffle(new)
        return new

    async def deliver(self, stories: int) -> None:
        await self.provider.deliver_all(self.more(stories))

    async def is_in_the_tables(self) -> None:
        """All of it, once, and nothing dead."""
        connection = await connected(self.installation)
        try:
            await until_folded(connection, self.author.world.events)
            await assert_tables_are_the_story(connection, self.author.world)
            assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE status = 'dead'") == 0
            assert await connection.fetchval("SELECT count(*) FROM webhook_events") == len(self.author.world.events)
        finally:
            await connection.close()
        assert self.provider.done.accepted == len(self.author.world.webhooks)


async def connected(installation: Installation) -> "asyncpg.Connection[asyncpg.Record]":
    """While a server comes back, it takes a moment."""
    async with limit("Postgres lets us in"):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                return await asyncpg.connect(installation.address("DATABASE_URL"), timeout=5)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def installed(folder: Path, **environment: str) -> AsyncIterator[Installation]:
    found = Installation(folder, **SECRETS, **environment)
    try:
        await found.up()
        yield found
    finally:
        await found.stop()
