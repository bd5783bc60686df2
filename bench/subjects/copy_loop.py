"""The baseline of a copy of one topic into another: aiokafka's `getmany`, batches built by hand, `send_batch`.

Arguments: topic, group, target. Keeps keys, values, headers, timestamps and partitions; must not look at what they say.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.topics import MAX_RECORD_BYTES

MAX_RECORDS = 5000
MAX_BATCH_BYTES = 1024 * 1024
MAX_SENT = 32
"""Batches under way, two or three of a partition."""


async def main(topic: str, group: str, target: str) -> None:
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, max_batch_size=MAX_BATCH_BYTES
    )
    await producer.start()
    await consumer.start()
    sent: deque[asyncio.Future[Any]] = deque()
    while True:
        fetched = await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS)
        for tp, records in fetched.items():
            for batch in batches(producer, records):
                sent.append(await producer.send_batch(batch, target, partition=tp.partition))
                # Others travel while the next are built; the oldest is waited for, so that none is lost unseen.
                if len(sent) > MAX_SENT:
                    await sent.popleft()


def batches(producer: AIOKafkaProducer, records: Sequence[Any]) -> list[Any]:
    """The records in order, as few batches as take them."""
    filled = [producer.create_batch()]
    for record in records:
        headers = list(record.headers)
        fields = {"key": record.key, "value": record.value, "timestamp": record.timestamp, "headers": headers}
        if filled[-1].append(**fields) is None:
            filled.append(producer.create_batch())
            if filled[-1].append(**fields) is None:
                raise ValueError("a record does not fit into a batch")
    return filled


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4]))
