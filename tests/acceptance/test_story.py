"""Invariants 1 to 8 in one story: some thousand deliveries, kill -9 in the middle, and the tables that must result."""

import asyncio
import time

import aiohttp
import asyncpg
import pytest

from tests.support import signing
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.story import Author, Webhook, write
from tests.support.tables import assert_tables_are_the_story, physical_rows, until_folded

SEED = 20261121
BODY_UNPROTECTED = ("aircall", "google_calendar")
"""A shared token vouches for the sender, not for the body."""

SIGN_THEIR_TIME = ("stripe", "standardwebhooks", "hubspot", "retell", "telnyx")


async def refuse_everything_false(url: str, webhooks: list[Webhook]) -> None:
    """Forged, stale and tampered deliveries: 401, and (as the tables show afterwards) no trace."""
    provider = Provider(url)
    now = int(time.time())
    async with aiohttp.ClientSession() as session:
        for webhook in webhooks:
            if webhook.path.endswith(BODY_UNPROTECTED):
                continue
            tampered = webhook.body.replace(b"a", b"b", 1) + b" "
            headers = webhook.sign(url + webhook.path, webhook.body, now)
            async with session.post(url + webhook.path, data=tampered, headers=headers) as response:
                assert response.status == 401
                assert (await response.json())["code"] == "signature_mismatch"
            async with session.post(url + webhook.path, data=webhook.body) as response:
                assert response.status == 401
                assert (await response.json())["code"] == "signature_missing"
        for webhook in webhooks:
            if webhook.path.endswith(SIGN_THEIR_TIME):
                headers = webhook.sign(url + webhook.path, webhook.body, now - 301)
                async with session.post(url + webhook.path, data=webhook.body, headers=headers) as response:
                    assert response.status == 401
                    assert (await response.json())["code"] == "timestamp_outside_tolerance"
        forged = signing.stripe(b"{}", now, secret="whsec_somebody_else")
        async with session.post(f"{url}/webhooks/stripe", data=b"{}", headers=forged) as response:
            assert response.status == 401
    assert not provider.done.accepted


@pytest.mark.parametrize("stories", [30, pytest.param(150, marks=pytest.mark.thorough)])
async def test_the_tables_are_the_story_whatever_the_order_the_repetition_and_the_kills(
    installation: Installation, stories: int
) -> None:
    author = Author(SEED, start=int(time.time()) - 200_000)
    world = write(author, stories)
    false_ones = author.random.sample(world.webhooks, 40)
    deliveries = world.webhooks + author.random.choices(world.webhooks, k=len(world.webhooks) // 3)
    author.random.shuffle(deliveries)
    assert len(deliveries) > 25 * stories
    provider = Provider(installation.ingest_url)
    third = len(deliveries) // 3

    await provider.deliver_all(deliveries[:third])
    await refuse_everything_false(installation.ingest_url, false_ones)
    sending = asyncio.create_task(provider.deliver_all(deliveries[third : 2 * third]))
    await installation.until(lambda: provider.done.accepted > third + third // 5, "some of the second third")
    await installation.kill("ingest")
    await installation.kill("processors")
    await sending
    await provider.deliver_all(deliveries[2 * third :])

    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        await until_folded(connection, world.events)
        await assert_tables_are_the_story(connection, world)
        statuses = {row["status"] for row in await connection.fetch("SELECT DISTINCT status FROM webhook_events")}
        assert statuses == {"applied", "ignored"}, "nothing is dead"
        events = await connection.fetchval("SELECT count(*) FROM webhook_events")
        assert events == len(world.events)
        assert provider.done.statuses["duplicate"] > 0

        before = await physical_rows(connection)
        for window in (("--from", "2h ago"), ("--from", "1h ago", "--type", "stripe.*"), ("--from", "2h ago")):
            entry = await installation.redrive_json("replay", "run", *window, "--reason", "the story")
            assert entry["state"] == "done"
            assert entry["records"] > 0
            assert entry["rows_changed"] == 0
        assert await physical_rows(connection) == before
    finally:
        await connection.close()
