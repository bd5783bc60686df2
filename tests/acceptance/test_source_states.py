"""A source is paused or disabled, by commands and by the API."""

import asyncio
import signal
import time
from typing import Any

import aiohttp
import asyncpg

from tests.support import signing
from tests.support.processes import Installation
from tests.support.story import Author
from tests.support.stripe_only import post_all, set_secret, stripe_world, until_answer
from tests.support.tables import until_folded
from tests.support.waiting import limit


async def test_a_paused_source_still_stores_and_a_disabled_one_answers_410_and_stores_nothing(
    stripe_only: Installation,
) -> None:
    installation = stripe_only
    set_secret(installation, signing.STRIPE)
    try:
        await installation.up()
        world = stripe_world(Author(14, start=int(time.time()) - 200_000), 60)
        webhooks = [webhook for webhook in world.webhooks if webhook.path.endswith("/stripe")]
        events = {one for one in world.events if one[0] == "stripe"}
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        try:
            changed = await installation.redrive_json("sources", "disable", "stripe", "--reason", "moved away")
            assert (changed["state"], changed["was"]) == ("disabled", "active")
            await until_answer(installation, webhooks[0], 410)
            # What a start without Kafka obeys.
            kept = installation.folder / ".redrive" / "disabled-sources.json"
            await installation.until(lambda: kept.exists() and "stripe" in kept.read_text(), "it is kept on disk")
            assert set(await post_all(installation.ingest_url, webhooks)) == {(410, "source_disabled")}

            _, error = await installation.redrive("sources", "pause", "stripe", expect=1)
            assert "is disabled" in error
            await installation.redrive_json("sources", "enable", "stripe")
            await installation.redrive_json("sources", "pause", "stripe")
            await until_answer(installation, webhooks[0], 200)
            assert {status for status, _ in await post_all(installation.ingest_url, webhooks)} == {200}
            await until_others_are_folded(installation, connection)
            before = await connection.fetchval("SELECT count(*) FROM webhook_events WHERE source = 'stripe'")
            # What was fetched before the word arrived may still be folded: the first delivery, and no more.
            assert before <= 1

            # A restart hears it again; what was stored meanwhile is folded once it is resumed.
            await installation.kill("processors")
            await installation.until_ready("processors")
            await until_others_are_folded(installation, connection)
            assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE source = 'stripe'") == before
            listed = await installation.redrive_json("sources", "list")
            assert {row["source"]: row["state"] for row in listed["sources"]}["stripe"] == "paused"
            await installation.redrive_json("sources", "resume", "stripe")
            await until_folded(connection, events)
            rows = await connection.fetch("SELECT action, reason FROM redrive.audit ORDER BY id")
            assert [row["action"] for row in rows] == [
                f"source.{verb}" for verb in ("disable", "enable", "pause", "resume")
            ]
            assert rows[0]["reason"] == "moved away"
        finally:
            await connection.close()
    finally:
        await installation.stop()


async def test_the_api_does_what_the_commands_do_and_puts_it_on_record(stripe_only: Installation) -> None:
    installation = stripe_only
    set_secret(installation, "whsec_of_another_endpoint")
    try:
        await installation.up()
        world = stripe_world(Author(15, start=int(time.time()) - 200_000), 20)
        webhooks = [webhook for webhook in world.webhooks if webhook.path.endswith("/stripe")]
        assert {status for status, _ in await post_all(installation.ingest_url, webhooks)} == {401}
        headers = {"X-Admin-API-Key": installation.address("ADMIN_API_KEY"), "X-Operator": "ada"}
        async with aiohttp.ClientSession(installation.url("console"), headers=headers) as session:

            async def call(method: str, path: str, wanted: int = 200, **body: Any) -> Any:
                async with session.request(method, path, json=body or None) as response:
                    found = await response.json()
                    assert response.status == wanted, found
                    return found

            held = (await call("GET", "/api/quarantine"))["sources"]["stripe"]
            assert (held["held"], held["verify_now"]) == (len(webhooks), 0)
            set_secret(installation, signing.STRIPE)
            installation.service("console").send_signal(signal.SIGHUP)
            async with limit("the console reads the new secret"):
                while (await call("POST", "/api/quarantine/release", source="stripe", dry_run=True))["released"] == 0:
                    await asyncio.sleep(0.1)
            done = await call("POST", "/api/quarantine/release", source="stripe", reason="the secret was wrong")
            assert (done["released"], done["still_failing"]) == (len(webhooks), 0)

            changed = await call("POST", "/api/sources/stripe/pause", reason="a look at it")
            assert changed == {"source": "stripe", "state": "paused", "was": "active"}
            states = {one["source"]: one["state"] for one in (await call("GET", "/api/sources"))["sources"]}
            assert states["stripe"] == "paused"
            assert (await call("POST", "/api/sources/stripe/enable", 409))["code"] == "invalid_transition"
            await call("POST", "/api/sources/stripe/resume")

            assert (await call("POST", "/api/sources/nobody/pause", 404))["code"] == "unknown_source"
            assert (await call("POST", "/api/sources/stripe/explode", 404))["code"] == "not_found"
            assert (await call("POST", "/api/quarantine/release", 400, source=7))["code"] == "invalid_selection"
            assert (await call("GET", "/api/audit?limit=x", 400))["code"] == "invalid_selection"
            audit = (await call("GET", "/api/audit"))["audit"]
            assert [(one["operator"], one["action"], one["reason"]) for one in audit] == [
                ("ada", "source.resume", None),
                ("ada", "source.pause", "a look at it"),
                *[("ada", "quarantine.release", "the secret was wrong")] * 2,
            ]
        async with aiohttp.ClientSession(installation.url("console")) as session:
            for method, path in (("GET", "/api/quarantine"), ("POST", "/api/sources/stripe/disable")):
                async with session.request(method, path) as response:
                    assert response.status == 401
    finally:
        await installation.stop()


async def until_others_are_folded(installation: Installation, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What another source got just now has become rows: so would this one's have, were it not paused."""
    count = "SELECT count(*) FROM webhook_events WHERE source = 'twilio'"
    before = await connection.fetchval(count)
    await installation.redrive("send", "twilio", "--count", "24", "--wait")
    assert await connection.fetchval(count) > before
