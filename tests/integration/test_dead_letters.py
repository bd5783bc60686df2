"""Dead letters are durable before the batch that passes over them, also after the log refused some."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from processors.fold import dead_record
from processors.outcome import Dead
from schemas.errors import PoisonRecord, Unavailable
from schemas.topics import DEAD_LETTER, SIDE_CONFIG
from tests.conftest import Stack
from tests.support.records import FakeRecord
from tests.support.workers import dead_letters_of


def letter(offset: int, body: bytes) -> Dead:
    return dead_record(FakeRecord("webhooks.x", 0, offset, 0, b"k", body), PoisonRecord("unparsable", "not JSON"))


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


async def test_after_a_refusal_letters_are_written_again(stack: Stack, narrow_topic: Any, read_topic: Any) -> None:
    letters = dead_letters_of(stack)
    await letters.start()
    try:
        with pytest.raises(Unavailable):
            await letters.put([letter(number, b"x" * 4000) for number in range(20)])
        await letters.put([letter(number, b"small") for number in range(100, 120)])
    finally:
        await letters.stop()
    written = {one.value for one in await read_topic(DEAD_LETTER) if one.value in (b"small", b"x" * 4000)}
    assert written == {b"small"}
