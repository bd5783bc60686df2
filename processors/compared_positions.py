"""Finds a log that was restored to an older state and has grown past the positions since. Must not fold.

Offsets alone do not show it: below the position, the log holds other records than those that were folded. The record
just below the position tells.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from processors.outcome import RawRecord
from processors.partition_state import Extent, Start
from processors.worker import Worker
from schemas.cluster import Cluster
from schemas.unreadable import is_unreadable

_POLL_MS: Final = 500
_READ_SECONDS: Final = 30.0
_FETCH_BYTES: Final = 64 * 1024
"""The most that one fetch returns of a partition: one record is wanted. Kafka returns a larger one all the same."""

ReadRecords = Callable[[Mapping[TP, int]], Awaitable[Mapping[TP, RawRecord]]]
"""The first record of each partition at or past an offset; without partitions that have none. Raises what Kafka raises.
"""


async def read_records(cluster: Cluster, offsets: Mapping[TP, int]) -> dict[TP, RawRecord]:
    """A `ReadRecords` over a client of its own: the worker's consumer must not be sought elsewhere."""
    consumer = AIOKafkaConsumer(
        **cluster.client_options(),
        client_id="redrive-compare",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        async with asyncio.timeout(_READ_SECONDS):
            await consumer.start()
            return await _first_records(consumer, offsets)
    except TimeoutError as error:
        raise KafkaTimeoutError("the records below the positions were not read in time") from error
    finally:
        await consumer.stop()


async def _first_records(consumer: AIOKafkaConsumer, offsets: Mapping[TP, int]) -> dict[TP, RawRecord]:
    # The client takes its own type and no other.
    wanted = {TopicPartition(*tp): offset for tp, offset in offsets.items()}
    found: dict[TP, RawRecord] = {}
    consumer.assign(list(wanted))
    ends = await consumer.end_offsets(list(wanted))
    for tp, offset in wanted.items():
        consumer.seek(tp, offset)
    remaining = {tp for tp, offset in wanted.items() if offset < ends[tp]}
    while remaining:
        for tp in list(remaining):
            try:
                # One by itself: the next may be a record that can't be read.
                records = (await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=1)).get(tp)
            except Exception as error:
                if not is_unreadable(error):
                    raise
                # There is nothing to compare; the worker says so where it has to fold it.
                remaining.discard(tp)
                consumer.pause(tp)
                continue
            if records:
                found[TP(*tp)] = records[0]
            if records or await consumer.position(tp) >= ends[tp]:
                remaining.discard(tp)
                consumer.pause(tp)
    return found


class ComparedPositions:
    """A worker's `Positions`, of logs that hold below each position what was folded."""

    def __init__(self, read: ReadRecords, worker: Worker) -> None:
        self._read = read
        self._worker = worker

    def forget(self) -> None:
        self._worker.forget()

    async def positions(self, extents: Mapping[TP, Extent], is_confirmed: bool) -> Mapping[TP, Start]:
        """Also without restored logs: their positions have moved. Raises what Kafka raises."""
        starts = await self._worker.positions(extents, is_confirmed)
        restored = await self.refold({tp: start.offset for tp, start in starts.items()}, extents)
        return {tp: start for tp, start in starts.items() if tp not in restored}

    async def refold(self, positions: Mapping[TP, int], extents: Mapping[TP, Extent]) -> set[TP]:
        """Move the positions of restored logs back to their start, and return those partitions. Raises what Kafka
        raises; waits for the database.
        """
        below = {tp: at - 1 for tp, at in positions.items() if at > extents[tp].start}
        records = await self._read(below) if below else {}
        # Where the log holds no record just below the position, the next one is not folded yet.
        folded = {tp: record for tp, record in records.items() if record.offset < positions[tp]}
        restored = await self._worker.unknown_records(folded) if folded else set()
        for tp in restored:
            first = await self._first_unknown(tp, extents[tp].start, positions[tp])
            await self._worker.refold(tp, first, positions[tp], extents[tp])
        return restored

    async def _first_unknown(self, tp: TP, start: int, position: int) -> int:
        """The first offset in [start, position) whose record was not folded; that of the last one was not."""
        low, high = start, position - 1
        while low < high:
            middle = (low + high) // 2
            if await self._worker.unknown_records(await self._read({tp: middle})):
                high = middle
            else:
                low = middle + 1
        return low
