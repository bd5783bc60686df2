"""The ceiling of the fold: aiokafka's `getmany` and a transaction, in a loop.

Arguments: topic, group, fold|keyed, plain|pipelined.
"""

import asyncio
import os
import sys
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer

from bench.subjects.folding import Fold
from bench.subjects.keyed_table import KeyedTable
from processors.store import Span
from schemas.topics import MAX_RECORD_BYTES

MAX_RECORDS = {"fold": 5000, "keyed": 80_000}
"""Small records: as many as redrive fetches at once."""


async def main(topic: str, group: str, what: str, way: str) -> None:
    fold = await (KeyedTable if what == "keyed" else Fold).open(os.environ["DATABASE_URL"])
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    await consumer.start()

    def fetch() -> asyncio.Task[Any]:
        return asyncio.create_task(consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS[what]))

    # The group and the database are both new, so no seek is needed: the first record is the first that counts.
    upcoming = fetch()
    while True:
        fetched = await upcoming
        if way == "pipelined":
            # While the transaction waits for Postgres, the next records are read and unpacked.
            upcoming = fetch()
        spans = [Span(tp.topic, tp.partition, rows[0].offset, rows[-1].offset + 1) for tp, rows in fetched.items()]
        if spans:
            await fold.write([record for records in fetched.values() for record in records], spans)
        if way == "plain":
            upcoming = fetch()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:5]))
