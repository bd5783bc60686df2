"""Invariant 9 for topics and services: one that is missing takes nothing with it, and is named until it is back."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.support import forks
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, World, stripe
from tests.support.topics import delete
from tests.support.waiting import until

GONE = "webhooks.twilio"


async def readiness(installation: Installation) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{installation.url('processors')}/readyz") as response:
        return await response.json()  # type: ignore[no-any-return]


def of_stripe(seed: int) -> World:
    author = Author(seed, start=int(time.time()) - 200_000)
    stripe.tell(author)
    return author.world


async def test_a_deleted_topic_stops_no_other_source_and_is_folded_once_it_is_back(installation: Installation) -> None:
    await delete(installation.address("KAFKA_BOOTSTRAP_SERVERS"), [GONE])

    async def is_named() -> bool:
        return bool((await readiness(installation))["missing_topics"] == [GONE])

    await until(is_named, "readiness names the topic")
    assert await installation.metric("processors", "redrive_processors_missing_topics", f'topic="{GONE}"') == 1
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        # While the processors run, and when they start without it.
        await installation.redrive("send", "stripe", "--count", "4", "--wait")
        await installation.kill("processors")
        assert (await installation.until_ready("processors"))["missing_topics"] == [GONE]
        await installation.redrive("send", "stripe", "--count", "4", "--wait")
        _, said = await installation.redrive("check", "--json", expect=78)
        assert json.loads(said)["faults"] == [f"topic {GONE} is missing; run `redrive topics --apply`"]
        await installation.redrive("topics", "--apply")

        async def is_back() -> bool:
            return not (await readiness(installation))["missing_topics"]

        await until(is_back, "the topic is back")
        await installation.redrive("send", "twilio", "--count", "2", "--wait")
        assert await connection.fetchval("SELECT count(DISTINCT source) FROM webhook_events") == 2
    finally:
        await connection.close()


async def test_a_service_that_crashes_at_a_start_keeps_no_other_one_down(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    installation = Installation(tmp_path, **servers, **SECRETS)
    (tmp_path / "redrive.toml").write_text('plugins = ["crashing"]\n')
    crash = tmp_path / "crashing.py"
    crash.write_text("import os, sys\nPROVIDERS = []\nif 'processors' in sys.argv: os._exit(3)\n")
    try:
        output = (tmp_path / "up.log").open("ab")
        installation.process = await forks.redrive(
            "up", cwd=tmp_path, env=installation.environment, stdout=output, stderr=output
        )
        await installation.until(lambda: "redrive is up" in installation.output(), "it goes on without them")
        assert "processors is not ready (no answer) and keeps trying" in installation.output()
        provider = Provider(installation.ingest_url)
        await provider.deliver_all(of_stripe(34).webhooks)
        assert provider.done.retries == 0
        crash.write_text("PROVIDERS = []\n")
        await installation.until_ready("processors")
    finally:
        await installation.stop()


async def test_a_service_that_can_not_work_stops_no_other_one(tmp_path: Path, servers: dict[str, str]) -> None:
    installation = Installation(tmp_path, **servers, **SECRETS)
    toml = tmp_path / "redrive.toml"
    try:
        await installation.up()
        toml.write_text("[sources.stripe\n")
        await installation.kill("processors")
        await installation.until(lambda: "processors gave up" in installation.output(), "it is named")
        ingress = installation.service("ingest").pid
        provider = Provider(installation.ingest_url)
        await provider.deliver_all(of_stripe(33).webhooks)
        assert provider.done.retries == 0
        # What is mended is taken up without a restart.
        toml.unlink()
        assert installation.process is not None
        installation.process.send_signal(signal.SIGHUP)
        await installation.until_ready("processors")
        await installation.redrive("send", "twilio", "--count", "2", "--wait")
        assert installation.service("ingest").pid == ingress
        toml.write_text("[sources.stripe\n")
        await installation.kill("processors")
        await installation.until(lambda: installation.output().count("processors gave up") == 2, "it is named again")
        assert await installation.stop() == 78
    finally:
        toml.unlink(missing_ok=True)
        await installation.stop()
