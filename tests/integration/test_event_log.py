"""Invariant 1: what the log refuses is never answered 2xx, and one topic's trouble ends where it began."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from deploy.topics import Topics
from schemas.topics import LOG_CONFIG, topic_of
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import limit

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
SMALL = "refuses-large-records"


@pytest.fixture
async def running(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> AsyncIterator[RunningIngress]:
    """Two sources; the topic of one takes no record of more than 2 KB."""
    async with Topics(stack.cluster) as topics:
        await topics.create({topic_of(SMALL): {**LOG_CONFIG, "max.message.bytes": "2000"}}, 1, 1)
    sources = {name: source(name, "stripe") for name in (SMALL, source_name)}
    async with run_ingress(stack, sources, tmp_path, now_ms, stall_seconds=3) as found:
        yield found


async def deliver(running: RunningIngress, name: str, number: int, padding: int = 0) -> tuple[int, str | None]:
    body = payment(number) + b" " * padding
    status, _, location = await post(running, f"/webhooks/{name}", body, signing.stripe(body, now_ms() // 1000))
    return status, location


async def test_a_batch_that_the_broker_refuses_is_503_and_the_producer_comes_back(
    running: RunningIngress, source_name: str
) -> None:
    """A refused batch leaves a hole in the idempotent sequence: without a new producer everything after it fails."""
    for number in range(3):
        assert await deliver(running, SMALL, number, padding=5000) == (503, None)
        async with limit("the delivery is taken"):
            while (await deliver(running, source_name, number))[0] != 200:
                await asyncio.sleep(0.1)
            while (await deliver(running, SMALL, 100 + number))[0] != 200:
                await asyncio.sleep(0.1)


async def test_after_a_renewal_every_record_is_there_once(
    running: RunningIngress, source_name: str, read_topic: ReadTopic, topic: str
) -> None:
    async def until_accepted(number: int) -> None:
        while (await deliver(running, source_name, number))[0] != 200:
            await asyncio.sleep(0.05)

    async with limit("all deliveries are taken"):
        await asyncio.gather(
            *(until_accepted(number) for number in range(200)),
            *(deliver(running, SMALL, number, padding=5000) for number in range(20)),
        )
    keys = [record.key for record in await read_topic(topic)]
    assert sorted(keys) == sorted(f"evt_{number}".encode() for number in range(200))
