"""Invariant 4 on a Kafka that comes back with older data under a living ingress: what it lost is accepted again."""

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.topics import Topics
from replay.log.reader import LogReader
from schemas.cluster import Cluster
from schemas.topics import LOG_CONFIG, topic_of
from tests.support import signing
from tests.support.brokers import Brokers
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import until

NAME = "restored"


@dataclass
class Servers:
    """As much of a stack as an ingress needs."""

    cluster: Cluster


async def deliver(running: RunningIngress, number: int) -> str:
    body = payment(number)
    status, answer, _ = await post(running, f"/webhooks/{NAME}", body, signing.stripe(body, now_ms() // 1000))
    return str(answer["status"] if status == 200 else answer["code"])


async def put(running: RunningIngress, numbers: range) -> None:
    answers = [await deliver(running, number) for number in numbers]
    assert set(answers) <= {"accepted", "spooled"}
    await until(lambda: not running.spool.has_records.is_set(), "an empty spool")


async def keys_on_the_log(cluster: Cluster) -> Counter[str]:
    found: Counter[str] = Counter()
    async with LogReader(cluster) as reader:
        async for _, records in reader.read(await reader.tails(topic_of(NAME), 2**62)):
            found.update((record.key or b"").decode() for record in records)
    return found


@pytest.mark.thorough
async def test_what_a_restored_log_lost_is_accepted_again_without_a_restart(tmp_path: Path) -> None:
    brokers = Brokers(tmp_path, 1)
    try:
        await brokers.start()
        servers = Servers(Cluster(brokers.servers))
        async with Topics(servers.cluster) as topics:
            await topics.create({topic_of(NAME): LOG_CONFIG}, 2, 1)
        sources = {NAME: source(NAME, "stripe")}
        async with run_ingress(
            cast(Any, servers), sources, tmp_path / "data", now_ms, stall_seconds=1, spool_max_bytes=2**20
        ) as running:
            await put(running, range(10))
            await swap(brokers, tmp_path, keep=True)
            await put(running, range(10, 30))
            await swap(brokers, tmp_path, keep=False)
            # As many as the old log had, so that no partition is shorter than what is known of it.
            await put(running, range(30, 60))
            await until_known_again(running)
            for number in range(10, 30):
                assert await deliver(running, number) == "accepted", number
            # Once all of it is known, copies are copies.
            await until_known_again(running)
            assert [await deliver(running, number) for number in range(60)] == ["duplicate"] * 60
        found = await keys_on_the_log(servers.cluster)
        assert set(found) == {f"evt_{number}" for number in range(60)}
    finally:
        await brokers.stop()


async def until_known_again(running: RunningIngress) -> None:
    """What the service does every two seconds."""
    await running.keeper.collect()
    await running.keeper.look(now_ms())


async def swap(brokers: Brokers, folder: Path, keep: bool) -> None:
    """Stop the broker, keep a copy of its data or put that back, and start it again."""
    data, copy = folder / "broker-1" / "log", folder / "snapshot"
    await brokers.stop()
    if keep:
        await asyncio.to_thread(shutil.copytree, data, copy)
    else:
        await asyncio.to_thread(shutil.rmtree, data)
        await asyncio.to_thread(shutil.copytree, copy, data)
    await brokers.children[0].start()
    await brokers._until_up()
