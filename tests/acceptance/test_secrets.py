"""A wrong secret loses nothing: invariant 3, and what operators do about it, through the real processes."""

import asyncio
import signal
import time

import asyncpg

from tests.support import signing
from tests.support.processes import Installation, metric, refuse_reload
from tests.support.provider import Provider
from tests.support.story import Author, Webhook
from tests.support.stripe_only import TOML, post_all, set_secret, stripe_world, until_answer
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import limit

FORGED = 50


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
