"""redrive's way with Faust, batches as events, over the keyed table. Arguments: topic, group."""

import asyncio
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

import uvloop
from faust.types import TP

from bench.subjects.keyed_table import KeyedTable
from processors.faust_transport import BatchApp, BatchSchema
from processors.partition_state import Extent, Start
from processors.store import Span
from schemas.topics import MAX_RECORD_BYTES


class FromTheStart:
    """A fresh database: every partition is read from its beginning."""

    def forget(self) -> None:
        return None

    async def positions(self, extents: Mapping[TP, Extent], is_confirmed: bool) -> Mapping[TP, Start]:
        return {tp: Start(extent.start, extent.topic_id) for tp, extent in extents.items()}


async def no_ids(topics: Collection[str]) -> dict[str, UUID | None]:
    return dict.fromkeys(topics)


async def main(name: str, group: str) -> None:
    table = await KeyedTable.open(os.environ["DATABASE_URL"])
    app = BatchApp(
        group,
        positions=FromTheStart(),
        topic_ids=no_ids,
        env_prefix="REDRIVE_FAUST_",
        broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
        datadir=os.path.join(os.environ["REDRIVE_DATA"], "faust"),
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        stream_buffer_maxsize=2,
        stream_wait_empty=False,
    )

    async def fold(stream: Any) -> None:
        async for event in stream.noack().events():
            batch = event.value
            await table.write(batch.records, [Span(batch.tp.topic, batch.tp.partition, batch.start, batch.end)])
            event.ack()

    app.agent(app.topic(name, schema=BatchSchema()), name="fold")(fold)
    await app.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
