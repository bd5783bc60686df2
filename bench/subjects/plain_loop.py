"""The ceiling of the fold: aiokafka's `getmany` and a transaction, in a loop. Arguments: topic, group."""

import os
import sys

import uvloop
from aiokafka import AIOKafkaConsumer

from bench.subjects.folding import Fold
from processors.store import Span
from schemas.topics import MAX_RECORD_BYTES

MAX_RECORDS = 5000


async def main(topic: str, group: str) -> None:
    fold = await Fold.open(os.environ["DATABASE_URL"])
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    await consumer.start()
    # The group and the database are both new, so no seek is needed: the first record is the first that counts.
    while True:
        fetched = await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS)
        spans = [Span(tp.topic, tp.partition, rows[0].offset, rows[-1].offset + 1) for tp, rows in fetched.items()]
        if spans:
            await fold.write([record for records in fetched.values() for record in records], spans)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
