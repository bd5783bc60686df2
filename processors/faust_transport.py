"""Faust's transport, in batches: one event is what one fetch brought of one partition. Must not look into records.

Faust stays in charge of groups, rebalances, commits and supervision. Four things are ours: a fetch is handed on whole;
reading starts from the positions in Postgres rather than from Kafka's group offsets; every batch carries the position
of the reader before it, so that a lost batch shows as a gap instead of passing for progress; and a partition is fetched
only while there is room for the result.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, cast

import faust
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from processors.consumer_thread import BatchConsumerThread
from processors.partition_state import Batch, Extent, Positions, Start
from processors.unreadable import UnreadablePartitions
from schemas.errors import Unavailable
from schemas.masking import describe
from schemas.outage import Outage
from schemas.topics import FindTopicIds

log: Final = logging.getLogger("redrive.processors")
IDLE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
BOUNDS_SECONDS: Final = 10.0


class _NoReadOffsets(dict[TP, int | None]):
    """Faust drops what lies below the last offset that it handed on, which after a rewind is what we asked for.

    The order is kept by the positions: there is nothing to remember here.
    """

    def __getitem__(self, _: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        return None


class BatchConsumer(Consumer):
    """Seeks to the stored positions, and acknowledges whole batches."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NoReadOffsets()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Batch) -> ConsumerMessage:
        last = record.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            0,
            [],
            None,
            cast(Any, record),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Forget old acknowledgements, and read from the positions that are stored with the rows.

        The database may be away: the partitions then rest, unread, until it answers. Faust must not wait for that,
        it takes a long silence here for a crash.
        """
        assigned = set(self.assignment())
        for tp in assigned:
            self._acked.pop(tp, None)
            self._acked_index.pop(tp, None)
            self._committed_offset.pop(tp, None)
        cast(BatchApp, self.app).seek_in_background(assigned)
        return {}

    async def rewind(self, starts: Mapping[TP, Start]) -> None:
        """Read these partitions again from there."""
        await self._thread.read_from(starts)

    async def bounds(self, partitions: set[TP]) -> dict[TP, tuple[int, int]]:
        return await self._thread.bounds(partitions)

    def partitions(self, topics: Collection[str]) -> set[TP]:
        return self._thread.partitions(topics)

    def ack(self, message: Any) -> bool:
        """Whatever became of a batch: there is room for the next one."""
        batch: Batch = message.value
        batch.reading.finish(batch)
        return bool(super().ack(message))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust expects one acknowledgement per offset and would fill the holes inside our batches."""

    def _new_offset(self, tp: TP) -> int | None:
        """Batches of a partition are acknowledged in order, so the highest acknowledged offset is the position."""
        acked = self._acked[tp]
        if not acked:
            return None
        highest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return int(highest) + 1


class BatchTransport(Transport):
    Consumer = BatchConsumer


class BatchSchema(faust.Schema[Any, Any]):
    """Hands the batch on as it is: decoding belongs to the projections."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, {}, message)

        return decode


class BatchApp(faust.App):
    """A Faust app over `BatchTransport`, reading from the positions that it is given."""

    def __init__(self, *args: Any, positions: Positions, topic_ids: FindTopicIds, **kwargs: Any) -> None:
        self._positions = positions
        self._topic_ids = topic_ids
        self._seek: asyncio.Task[None] | None = None
        self.resting: frozenset[str] = frozenset()
        self.unreadable = UnreadablePartitions()
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def rest(self, topics: frozenset[str]) -> None:
        """Fetch nothing of these topics until told otherwise; what was fetched is still folded."""
        self.resting = topics

    def seek_in_background(self, partitions: set[TP]) -> None:
        """A newer assignment replaces the seek for an older one."""
        if self._seek is not None:
            self._seek.cancel()
        self._positions.forget()
        self._seek = asyncio.create_task(self._seek_to_positions(partitions))

    async def _seek_to_positions(self, partitions: set[TP]) -> None:
        """Until every partition is read from somewhere; a broker that is away is asked again."""
        remaining, is_confirmed, outage = set(partitions), False, Outage()
        while remaining:
            try:
                extents = await self.extents(remaining)
                found = await self._positions.positions(extents, is_confirmed)
                await self.batches.rewind(found)
            except (KafkaError, Unavailable) as error:
                if outage.begins(time.monotonic()):
                    line = {"action": "seek", "outcome": "lost", "code": "log_unavailable"}
                    log.warning("the broker gives no bounds; it is asked again: %s", describe(error), extra=line)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            remaining -= found.keys()
            if remaining:
                await asyncio.sleep(RETRY_SECONDS)
            is_confirmed = True

    async def extents(self, partitions: set[TP]) -> dict[TP, Extent]:
        """The log's offsets of each; without those that are gone or have no leader. Raises what Kafka raises.

        The id comes first: for a topic that is created again in between, it is then the old one, and the next call
        notices. The other way round, offsets of the old log would pass for the new one's.
        """
        ids = await self._topic_ids({tp.topic for tp in partitions}) if partitions else {}
        bounds = await self.batches.bounds({tp for tp in partitions if tp.topic in ids})
        return {tp: Extent(start, end, ids[tp.topic]) for tp, (start, end) in bounds.items()}

    @property
    def is_reading(self) -> bool:
        """True if the last assignment is being read from its positions."""
        seek = self._seek
        if seek is None or not seek.done() or seek.cancelled() or self.rebalancing:
            return False
        return seek.exception() is None

    @property
    def batches(self) -> BatchConsumer:
        """The consumer, as the type that `BatchTransport` makes."""
        return cast(BatchConsumer, self.consumer)

    async def on_stop(self) -> None:
        if self._seek is not None:
            self._seek.cancel()
        await super().on_stop()
