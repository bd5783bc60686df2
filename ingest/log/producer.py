"""The Kafka producer: how it is made, and how it is stopped while the broker is away."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from schemas.cluster import Cluster
from schemas.errors import LogUnavailable
from schemas.masking import reason_of
from schemas.topics import MAX_RECORD_BYTES

NEW_TOPIC_SECONDS: Final = 2.0
"""A broker may take a moment to tell of a topic."""

MAX_BATCH_BYTES: Final = 1024 * 1024


async def learn_partitions(producer: AIOKafkaProducer, topics: Sequence[str]) -> None:
    """An append must not wait for metadata, so they are here before the first. Raises `LogUnavailable`.

    `topics` is every topic: a client that is asked for one more by itself forgets those that it only knew of.
    """
    try:
        await producer.client.set_topics(topics)
        deadline = time.monotonic() + NEW_TOPIC_SECONDS
        while not all(map(producer.client.cluster.partitions_for_topic, topics)) and time.monotonic() < deadline:
            # One that was made just now. One that is missing is its own source's trouble: `append` refuses it.
            await asyncio.sleep(0.1)
            await producer.client.force_metadata_update()
    except KafkaError as error:
        raise LogUnavailable(f"Kafka does not answer: {reason_of(error)}") from error


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """`stop` flushes first, and a flush waits for ever while the broker is away."""
    try:
        await asyncio.wait_for(producer.stop(), timeout=5)
    except (TimeoutError, KafkaError):
        # There is no public way to stop the client without its flush.
        if producer._sender.sender_task is not None:
            producer._sender.sender_task.cancel()
        # A waiter for a batch of this producer must hear that the batch has failed.
        producer._message_accumulator.fail_all(ProducerClosed())
        await producer.client.close()


def producer_factory(cluster: Cluster) -> Callable[[], AIOKafkaProducer]:
    """Settings of the producer: every one of them is about not losing a record."""
    return lambda: AIOKafkaProducer(
        **cluster.client_options(),
        client_id="redrive-ingest",
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        max_batch_size=MAX_BATCH_BYTES,
        linger_ms=0,
        request_timeout_ms=10_000,
        metadata_max_age_ms=30_000,
    )
