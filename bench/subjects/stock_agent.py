"""The usual way with Faust: an agent that takes 1,000 events at a time. Arguments: topic, group, fold|keyed."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faust
import uvloop

from bench.subjects.folding import Fold
from bench.subjects.keyed_table import KeyedTable
from processors.store import Span
from schemas.envelope import KafkaHeaders
from schemas.topics import MAX_RECORD_BYTES

TAKE = 1000
WITHIN_SECONDS = 1.0


@dataclass(slots=True)
class Raw:
    """A Faust message as the fold reads records."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders


def raw_of(message: Any) -> Raw:
    milliseconds = round(message.timestamp * 1000)
    return Raw(
        message.topic,
        message.partition,
        message.offset,
        milliseconds,
        message.key,
        message.value,
        message.headers,
    )


def spans_of(records: Sequence[Raw]) -> list[Span]:
    """Faust hands a partition's records on in order, so the first and the last bound what was taken of it."""
    bounds: dict[int, tuple[int, int]] = {}
    for record in records:
        start, _ = bounds.get(record.partition, (record.offset, 0))
        bounds[record.partition] = (start, record.offset + 1)
    topic = records[0].topic
    return [Span(topic, partition, start, end) for partition, (start, end) in bounds.items()]


async def main(name: str, group: str, what: str) -> None:
    fold = await (KeyedTable if what == "keyed" else Fold).open(os.environ["DATABASE_URL"])
    app = faust.App(
        group,
        broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
        datadir=os.path.join(os.environ["REDRIVE_DATA"], "faust"),
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_RECORD_BYTES,
    )
    topic = app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def take(stream: Any) -> None:
        async for events in stream.take_events(TAKE, within=WITHIN_SECONDS):
            records = [raw_of(event.message) for event in events]
            await fold.write(records, spans_of(records))

    app.agent(topic, name="take")(take)
    await app.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4]))
