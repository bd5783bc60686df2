"""No record of another producer unpacks to more than the log allows (invariant 9): the broker unpacks it, and counts."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from deploy.topics import Topics
from schemas.topics import LOG_CONFIG, MAX_RECORD_BYTES, SIDE_CONFIG, UNPACKED
from tests.conftest import Stack

BOMB_BYTES = 64 * 2**20


@pytest.fixture
async def foreign(stack: Stack) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that compresses, and sends whatever it likes."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.servers, compression_type="gzip", max_request_size=2 * BOMB_BYTES, acks="all"
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def set_compression(stack: Stack, topic: str, kind: str) -> None:
    async with Topics(stack.cluster) as topics:
        await topics.widen({topic: {"compression.type": kind}})


async def test_a_bomb_is_refused_and_what_is_small_comes_unpacked(
    stack: Stack, topic: str, foreign: AIOKafkaProducer, read_topic: Callable[[str], Awaitable[list[ConsumerRecord]]]
) -> None:
    with pytest.raises(KafkaError, match=r"MessageSizeTooLarge|RecordTooLarge"):
        await foreign.send_and_wait(topic, bytes(BOMB_BYTES), partition=0)
    with pytest.raises(KafkaError, match=r"MessageSizeTooLarge|RecordTooLarge"):
        await foreign.send_and_wait(topic, bytes(MAX_RECORD_BYTES + 1), partition=0)
    await foreign.send_and_wait(topic, bytes(1000), partition=0)
    assert [record.value for record in await read_topic(topic)] == [bytes(1000)]


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_a_batch_that_stayed_compressed_is_read_whatever_its_codec(
    stack: Stack, topic: str, read_topic: Callable[[str], Awaitable[list[ConsumerRecord]]], codec: str
) -> None:
    await set_compression(stack, topic, "producer")
    async with AIOKafkaProducer(bootstrap_servers=stack.servers, compression_type=codec) as producer:
        await producer.send_and_wait(topic, bytes(1000), partition=0)
    assert [record.value for record in await read_topic(topic)] == [bytes(1000)]


async def test_a_topic_that_lets_batches_stay_compressed_is_a_fault_that_apply_corrects(
    stack: Stack, topic: str
) -> None:
    await set_compression(stack, topic, "producer")
    async with Topics(stack.cluster) as topics:
        (state,) = await topics.states({topic: LOG_CONFIG})
        assert state.faults == {"compression.type": "producer"}
        assert state.widening == UNPACKED
        await topics.widen({topic: state.widening})
        (state,) = await topics.states({topic: LOG_CONFIG})
        assert not state.faults


def test_every_topic_of_ours_is_unpacked() -> None:
    assert all(config.items() >= UNPACKED.items() for config in (LOG_CONFIG, *SIDE_CONFIG.values()))
