"""Dead letters are durable before the batch that passes over them, also after the log refused some."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from processors.dead_letters import KafkaDeadLetters
from processors.fold import dead_record
from processors.outcome import Dead
from schemas.errors import LogUnavailable, PoisonRecord
from schemas.topics import DEAD_LETTER, MAX_RECORD_BYTES, SIDE_CONFIG
from tests.conftest import Stack
from tests.support.records import FakeRecord


def letter(offset: int, body: bytes, topic: str = "webhooks.x") -> Dead:
    return dead_record(FakeRecord(topic, 0, offset, 0, b"k", body), PoisonRecord("unparsable", "not JSON"))


@pytest.fixture
async def narrow_topic(stack: Stack) -> AsyncIterator[Any]:
    """The topic of dead letters takes only small ones, until it is told otherwise."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()

    async def limit(size: str) -> None:
        configs = {**SIDE_CONFIG[DEAD_LETTER], "max.message.bytes": size}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, DEAD_LETTER, configs=configs)])

    await limit("2000")
    try:
        yield limit
    finally:
        await limit(SIDE_CONFIG[DEAD_LETTER]["max.message.bytes"])
        await admin.close()


def headers_of(record: ConsumerRecord) -> dict[str, bytes]:
    return dict(record.headers)


async def test_a_letter_that_is_too_large_goes_without_its_value_and_holds_up_nobody(
    stack: Stack, narrow_topic: Any, read_topic: Any
) -> None:
    letters = KafkaDeadLetters(stack.cluster)
    await letters.start()
    origin = f"webhooks.{secrets.token_hex(4)}"
    wide = FakeRecord(origin, 1, 50, 0, b"k", b"x" * 4000, [("odd", b"h" * 3000)])
    try:
        await letters.put(
            [letter(number, b"x" * 4000, origin) for number in range(20)] + [letter(99, b"small", origin)]
        )
        await letters.put([dead_record(wide, PoisonRecord("unparsable", "not JSON"))])
        await letters.put([letter(100, b"next", origin)])
    finally:
        await letters.stop()
    found = {int(headers_of(one)["redrive_origin_offset"]): one for one in await read_topic(DEAD_LETTER)
             if headers_of(one).get("redrive_origin_topic") == origin.encode()}  # fmt: skip
    omitted = {offset: headers_of(one).get("redrive_omitted") for offset, one in found.items()}
    assert omitted == {
        **dict.fromkeys(range(20), b"value"), 99: None, 50: b"value, headers, timestamp", 100: None
    }  # fmt: skip
    assert {offset: one.value for offset, one in found.items() if one.value} == {99: b"small", 100: b"next"}
    assert headers_of(found[50])["redrive_reason"] == b"unparsable"


async def test_a_letter_as_large_as_any_record_is_written(stack: Stack, read_topic: Any) -> None:
    """The record is as large as its topic takes, and ours has more headers."""
    letters = KafkaDeadLetters(stack.cluster)
    await letters.start()
    origin = f"webhooks.{secrets.token_hex(4)}"
    try:
        await letters.put([letter(0, b"x" * (MAX_RECORD_BYTES - 100), origin), letter(1, bytes(8 * 2**20), origin)])
    finally:
        await letters.stop()
    found = [headers_of(one) for one in await read_topic(DEAD_LETTER)]
    assert [one["redrive_omitted"] for one in found if one["redrive_origin_topic"] == origin.encode()] == [b"value"] * 2


async def test_where_the_topic_takes_nothing_the_log_is_to_blame(stack: Stack, narrow_topic: Any) -> None:
    await narrow_topic("50")
    letters = KafkaDeadLetters(stack.cluster)
    try:
        with pytest.raises(LogUnavailable, match="dead letters"):
            await letters.put([letter(0, b"x")])
    finally:
        await letters.stop()
