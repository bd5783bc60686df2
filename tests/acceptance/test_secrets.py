"""A wrong secret loses nothing: invariant 3, and what operators do about it, through the real processes."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.support import signing
from tests.support.processes import Installation, metric, refuse_reload
from tests.support.provider import Provider
from tests.support.story import Author, Webhook, World, stripe
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import limit

TOML = """
[sources.stripe]
provider = "stripe"
secrets = ["${STRIPE_SECRET_NOW}"]
"""
FORGED = 50


def stripe_world(author: Author, deliveries: int) -> World:
    """At least so many deliveries of Stripe, and nothing else."""
    while len(author.world.webhooks) < deliveries:
        stripe.tell(author)
    return author.world


def set_secret(installation: Installation, secret: str) -> None:
    (installation.folder / ".env").write_text(f"STRIPE_SECRET_NOW={secret}\n")


async def post_all(url: str, webhooks: list[Webhook], secret: str | None = None) -> list[tuple[int, str | None]]:
    """(status, problem code) of one attempt each, all at once; `secret` in the place of the right one: a forgery."""
    now = int(time.time())
    slots = asyncio.Semaphore(32)
    async with aiohttp.ClientSession() as session:

        async def post(webhook: Webhook) -> tuple[int, str | None]:
            headers = webhook.sign(url + webhook.path, webhook.body, now)
            if secret is not None:
                headers = signing.stripe(webhook.body, now, secret)
            async with slots, session.post(url + webhook.path, data=webhook.body, headers=headers) as response:
                return response.status, json.loads(await response.text()).get("code")

        return await asyncio.gather(*(post(webhook) for webhook in webhooks))


@pytest.fixture
def stripe_only(tmp_path: Path, servers: dict[str, str]) -> Installation:
    installation = Installation(
        tmp_path, **servers, **{name: value for name, value in signing.SECRETS.items() if not name.startswith("STRIPE")}
    )
    (tmp_path / "redrive.toml").write_text(TOML)
    return installation


async def test_after_a_wrong_secret_is_fixed_the_quarantine_gives_everything_back_and_forgeries_stay_out(
    stripe_only: Installation,
) -> None:
    installation = stripe_only
    author = Author(11, start=int(time.time()) - 200_000)
    world = stripe_world(author, 500)
    usage = [webhook for webhook in world.webhooks if not webhook.path.endswith("/stripe")]
    genuine = [webhook for webhook in world.webhooks if webhook.path.endswith("/stripe")]
    forged = [
        Webhook(webhook.path, webhook.body.replace(b'"eur"', b'"usd"'), webhook.sign) for webhook in genuine[:FORGED]
    ]
    set_secret(installation, "whsec_of_another_endpoint")
    try:
        await installation.up()
        answers = await post_all(installation.ingest_url, genuine)
        answers += await post_all(installation.ingest_url, forged, "whsec_a_forger_made_up")
        # Some providers send again: the same event, signed anew.
        answers += await post_all(installation.ingest_url, genuine[:20])
        assert set(answers) == {(401, "signature_mismatch")}
        await Provider(installation.ingest_url).deliver_all(usage)

        held = (await installation.redrive_json("quarantine", "list"))["sources"]["stripe"]
        assert (held["held"], held["verify_now"]) == (len(answers), 0)
        nothing = await installation.redrive_json("quarantine", "release", "--source", "stripe")
        assert (nothing["released"], nothing["still_failing"]) == (0, len(answers))

        set_secret(installation, signing.STRIPE)
        assert installation.process is not None
        installation.process.send_signal(signal.SIGHUP)
        await installation.until(lambda: "configuration read again" in installation.output(), "the reload")
        dry = await installation.redrive_json("quarantine", "release", "--source", "stripe", "--dry-run")
        done = await installation.redrive_json("quarantine", "release", "--source", "stripe")
        counts = {
            "released": len(genuine),
            "duplicates": 20,
            "still_failing": FORGED,
            "untimely": 0,
            "released_before": 0,
        }
        assert done == {**counts, "dry_run": False}
        assert dry == {**counts, "dry_run": True}
        again = await installation.redrive_json("quarantine", "release", "--source", "stripe")
        assert (again["released"], again["released_before"]) == (0, len(genuine) + 20)

        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        try:
            await until_folded(connection, world.events)
            await assert_tables_are_the_story(connection, world)
            assert await connection.fetchval("SELECT count(*) FROM webhook_events") == len(world.events)
            outcomes = await connection.fetch("SELECT details ->> 'outcome' AS outcome FROM redrive.audit ORDER BY id")
            assert [row["outcome"] for row in outcomes] == ["begun", "done"] * 3
        finally:
            await connection.close()
        # The new secret is in force without a restart.
        await until_answer(installation, genuine[0], 200)
        assert {status for status, _ in await post_all(installation.ingest_url, genuine[:3])} == {200}
        assert (
            await metric(installation, "ingest", 'redrive_ingest_secret_matches_total{secret="1",source="stripe"}') >= 3
        )
    finally:
        await installation.stop()


async def test_a_bad_redrive_toml_is_refused_and_the_old_one_stays_while_no_request_is_dropped(
    stripe_only: Installation,
) -> None:
    installation = stripe_only
    set_secret(installation, signing.STRIPE)
    try:
        await installation.up()
        author = Author(12, start=int(time.time()) - 200_000)
        provider = Provider(installation.ingest_url)
        world = stripe_world(author, 300)
        sending = asyncio.create_task(provider.deliver_all(world.webhooks))
        toml = installation.folder / "redrive.toml"
        faulty = (
            "[sources.stripe\n",
            TOML.replace('"stripe"', '"no_such_provider"', 1),
            TOML + "[no_such_table]\n",
            TOML + "# caf\udce9\n",
        )
        for count, text in enumerate(faulty, 1):
            toml.write_text(text, errors="surrogateescape")
            _, error = await installation.redrive("check", expect=78)
            assert "redrive.toml" in error
            await refuse_reload(installation, "ingest", count)
        # As it looks while it is written; every process takes part.
        toml.write_text("")
        assert installation.process is not None
        installation.process.send_signal(signal.SIGHUP)
        await installation.until(lambda: "is empty, or is not there" in installation.output(), "the refusal")
        for service in ("ingest", "processors", "console"):
            await refuse_reload(installation, service, len(faulty) + 1 if service == "ingest" else 1)
        toml.write_text(TOML + '[sources.stripe-eu]\nprovider = "stripe"\nsecrets = ["whsec_of_europe"]\n')
        installation.process.send_signal(signal.SIGHUP)
        await installation.until(lambda: "stripe-eu" in installation.output(), "the reload")
        eu = stripe_world(Author(13, start=int(time.time()) - 200_000), 30)
        here = [
            Webhook(
                webhook.path + "-eu", webhook.body, lambda _, body, now: signing.stripe(body, now, "whsec_of_europe")
            )
            for webhook in eu.webhooks
            if webhook.path.endswith("/stripe")
        ]
        # Before the file is changed again: who has not read it yet would miss what it says now.
        await until_answer(installation, here[0], 200)
        await sending
        assert provider.done.retries == 0
        assert await metric(installation, "ingest", "redrive_reload_failures_total") == 5

        # A source whose topic is not there is refused by the ingress, and named by the processors, which fold the others.
        good = toml.read_text()
        toml.write_text(good + '[sources.no-topic]\nprovider = "stripe"\nsecrets = ["whsec_of_no_topic"]\n')
        await refuse_reload(installation, "ingest", 6)
        installation.service("processors").send_signal(signal.SIGHUP)
        async with limit("the processors name the topic that is missing"):
            while await metric(installation, "processors", "redrive_processors_missing_topics") != 1:
                await asyncio.sleep(0.1)
        toml.write_text(good)

        # The new source has a topic of its own, and its records are folded.
        assert {status for status, _ in await post_all(installation.ingest_url, here)} == {200}
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        try:
            events = {("stripe-eu", name) for source, name in eu.events if source == "stripe"}
            await until_folded(connection, events | world.events)
            # And the ones that were there before go on as if nothing had been.
            later = stripe_world(Author(16, start=int(time.time()) - 200_000), 30)
            await Provider(installation.ingest_url).deliver_all(later.webhooks)
            assert {status for status, _ in await post_all(installation.ingest_url, later.webhooks)} == {200}
            await until_folded(connection, later.events)
        finally:
            await connection.close()
    finally:
        await installation.stop()


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


async def until_answer(installation: Installation, webhook: Webhook, wanted: int) -> None:
    async with limit("the answer changes"):
        while (await post_all(installation.ingest_url, [webhook]))[0][0] != wanted:
            await asyncio.sleep(0.1)


async def until_others_are_folded(installation: Installation, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What another source got just now has become rows: so would this one's have, were it not paused."""
    count = "SELECT count(*) FROM webhook_events WHERE source = 'twilio'"
    before = await connection.fetchval(count)
    await installation.redrive("send", "twilio", "--count", "24", "--wait")
    assert await connection.fetchval(count) > before
