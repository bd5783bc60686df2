"""A stranger can't empty the quarantine: what is kept stays, and large forgeries leave room for what is genuine."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.embedded.embedded_kafka import EmbeddedKafka
from deploy.topics import Topics
from replay.log.reader import LogReader
from replay.operations.quarantine import QuarantineReader
from replay.operations.release import ReleaseSelection, release
from schemas.cluster import Cluster
from schemas.providers.base import Secrets
from schemas.quarantine import RETENTION_SECONDS, SMALL_BYTES, QuarantineConfig
from schemas.settings import Source
from schemas.topics import LOG_CONFIG, QUARANTINE, SIDE_CONFIG, WIDENED, WINDOW
from tests.conftest import Stack
from tests.support import signing
from tests.support.auditing import audited
from tests.support.commands import invoke
from tests.support.ingresses import RunningIngress, now_ms, run_ingress, source
from tests.support.records import payment

MIB = 1024 * 1024
CONFIG = QuarantineConfig(bytes=64 * MIB)
GENUINE = 5
"""Of each source before the flood, and as many after it."""

FORGED = 17
"""Of each source: more than the configured bytes of bodies."""


@pytest.fixture
async def names(stack: Stack, source_name: str) -> list[str]:
    """Three sources, with their topics."""
    found = [f"{source_name}{letter}" for letter in "abc"]
    async with Topics(stack.cluster) as topics:
        await topics.create({f"webhooks.{name}": LOG_CONFIG for name in found}, partitions=1, replication=1)
    return found


async def refused(running: RunningIngress, name: str, body: bytes, headers: dict[str, str]) -> None:
    async with running.session.post(f"{running.url}/webhooks/{name}", data=body, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (401, "signature_mismatch")


async def flood(running: RunningIngress, name: str) -> None:
    headers = signing.stripe(b"", int(time.time()), "whsec_forged_one")
    for number in range(FORGED):
        await refused(running, name, b"%d" % (number % 10) * (4 * MIB), headers)


async def post_genuine(running: RunningIngress, names: list[str], first: int) -> None:
    for name in names:
        for number in range(first, first + GENUINE):
            await refused(running, name, payment(number), signing.stripe(payment(number), int(time.time())))


async def quarantine_start(stack: Stack) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.servers)
    await consumer.start()
    try:
        partition = TopicPartition(QUARANTINE, 0)
        return int((await consumer.beginning_offsets([partition]))[partition])
    finally:
        await consumer.stop()


async def settings_of_quarantine(cluster: Cluster) -> dict[str, str]:
    """As the broker tells them."""
    async with Topics(cluster) as topics:
        return (await topics._configs([QUARANTINE]))[QUARANTINE]


async def test_large_forgeries_to_several_sources_push_out_and_keep_out_nothing_genuine(
    stack: Stack, names: list[str], tmp_path: Path, connection: Any
) -> None:
    right: dict[str, Source] = {name: source(name, "stripe") for name in names}
    wrong = {name: replace(one, secrets=Secrets(("whsec_wrong_one",))) for name, one in right.items()}
    start = await quarantine_start(stack)
    async with run_ingress(stack, wrong, tmp_path, now_ms, quarantine=CONFIG) as running:
        await post_genuine(running, names, 0)
        await asyncio.gather(*(flood(running, name) for name in names))
        await post_genuine(running, names, GENUINE)
    assert await quarantine_start(stack) == start, "nothing expires before its time"
    async with LogReader(stack.cluster) as reader:
        quarantine = QuarantineReader(reader, connection, right, None)
        sizes: dict[str, list[int]] = {name: [] for name in names}
        async for part in quarantine.read(lambda _: None):
            for one in part:
                if hasattr(one, "delivery") and one.delivery.source in sizes:
                    sizes[one.delivery.source].append(len(one.delivery.body))
        done = await release(quarantine, ReleaseSelection(names), None, lambda _: None)
    assert done.released == 2 * GENUINE * len(names), "every genuine one is there, and can be released"
    for found in sizes.values():
        large = [size for size in found if size > SMALL_BYTES]
        assert 0 < sum(large) <= CONFIG.bytes / 4, "large ones have a half, and a half of that at once"
        assert sum(found) <= CONFIG.bytes / 2


@pytest.fixture
async def old_kafka(tmp_path: Path) -> AsyncIterator[EmbeddedKafka]:
    """A broker with side topics as older versions made them."""
    found = EmbeddedKafka(tmp_path / "kafka", tmp_path / "kafka.log", print)
    narrow = {"retention.bytes": str(512 * MIB), "message.timestamp.type": "CreateTime"}
    try:
        await found.start()
        async with Topics(Cluster(found.bootstrap_servers)) as topics:
            older = {
                QUARANTINE: {**SIDE_CONFIG[QUARANTINE], **narrow, "delete.retention.ms": "1000"},
                WINDOW: {**SIDE_CONFIG[WINDOW], "message.timestamp.type": "CreateTime"},
            }
            await topics.create(older, partitions=1, replication=1)
        yield found
    finally:
        await found.stop()


async def test_check_says_how_to_widen_topics_of_an_older_version_and_the_command_does_it_on_record(
    old_kafka: EmbeddedKafka, database_url: str, connection: Any, tmp_path: Path
) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": old_kafka.bootstrap_servers,
        "DATABASE_URL": database_url,
        "STRIPE_WEBHOOK_SECRET": signing.STRIPE,
        "TOPIC_PARTITIONS": "1",
    }
    code, text = await invoke(tmp_path, environment, "check")
    assert code == 78
    assert f"{QUARANTINE}: retention.bytes is '{512 * MIB}'" in text
    assert text.count("`redrive topics --apply` makes it") == 3
    code, text = await invoke(tmp_path, environment, "topics", "--apply")
    assert (code, "widened" in text) == (0, True), text
    audit = [(action, details) for action, _, details in await audited(connection)]
    assert audit[-1] == ("topics.widen", {"topics": WIDENED})
    settings = await settings_of_quarantine(Cluster(old_kafka.bootstrap_servers))
    assert (settings["retention.bytes"], settings["message.timestamp.type"]) == ("-1", "LogAppendTime")
    assert settings["delete.retention.ms"] == "1000", "what was not asked for stays"
    assert settings["retention.ms"] == SIDE_CONFIG[QUARANTINE]["retention.ms"]
    code, text = await invoke(tmp_path, environment, "check")
    assert (code, "at most 128.0MiB in seven days" in text) == (0, True), text
    code, text = await invoke(tmp_path, environment, "topics", "--apply", "--json")
    assert (code, json.loads(text)["widened"], len(await audited(connection))) == (0, {}, len(audit))


async def test_the_topic_keeps_what_the_limits_of_all_sources_let_in_which_check_says(
    stack: Stack, database_url: str, tmp_path: Path
) -> None:
    settings = await settings_of_quarantine(stack.cluster)
    # Any size could be less than what some number of sources and hosts let in.
    assert (settings["retention.bytes"], settings["cleanup.policy"]) == ("-1", "delete")
    assert int(settings["retention.ms"]) == RETENTION_SECONDS * 1000
    environment = {"KAFKA_BOOTSTRAP_SERVERS": stack.servers, "DATABASE_URL": database_url, **signing.SECRETS}
    _, text = await invoke(tmp_path, environment, "check", "--json")
    sources = len([one for one in json.loads(text)["topics"] if one["name"] not in SIDE_CONFIG])
    assert sources > 1
    assert json.loads(text)["quarantine"]["bytes_in_seven_days"] == sources * QuarantineConfig().bytes


async def test_check_warns_of_a_share_that_is_smaller_than_a_body(
    stack: Stack, database_url: str, tmp_path: Path
) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
        "DATABASE_URL": database_url,
        "STRIPE_WEBHOOK_SECRET": signing.STRIPE,
    }
    for workers, is_warned in (("8", False), ("9", True)):
        _, text = await invoke(tmp_path, {**environment, "INGEST_WORKERS": workers}, "check", "--json")
        found = json.loads(text)
        assert any("keeps no delivery of more than" in warning for warning in found["warnings"]) is is_warned
        assert found["quarantine"]["bytes_in_seven_days"] == QuarantineConfig().bytes
        assert abs(found["clock_ahead_of_postgres_seconds"]) < 60
