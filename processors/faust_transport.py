"""Faust's transport, in batches: one event is what one fetch brought of one partition. Must not look into records.

Faust stays in charge of groups, rebalances, commits and supervision. Four things are ours: a fetch is handed on whole,
reading starts from the positions in Postgres rather than from Kafka's group offsets, every batch says where the reading
stood before it, so that a batch lost on the way shows as a gap instead of passing for progress, and a partition is
fetched from only while there is room for what it brings.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, cast

import faust
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from processors.partition_state import Batch, Extent, Positions, Readings, Start, TopicIds
from processors.unreadable import UnreadablePartitions
from schemas.errors import Unavailable
from schemas.masking import describe
from schemas.outage import Outage

log: Final = logging.getLogger("redrive.processors")
IDLE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
BOUNDS_SECONDS: Final = 10.0


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Reads, in the consumer's own thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._readings = Readings()

    @property
    def _unreadable(self) -> UnreadablePartitions:
        return cast(BatchApp, self.app).unreadable

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._readings.end_all()
        self._unreadable.forget_all()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._readings.end_all()
        await super().on_partitions_assigned(assigned, generation_id)

    async def bounds(self, partitions: set[TP]) -> dict[TP, tuple[int, int]]:
        """{partition: (log start, log end)}; without those that have no leader, which must not hold up the rest."""
        cluster = self._ensure_consumer()._client.cluster
        partitions = {tp for tp in partitions if cluster.leader_for_partition(tp) not in (None, -1)}
        if not partitions:
            return {}
        found: dict[TP, tuple[int, int]] = await self.call_thread(self._bounds, partitions)
        return found

    async def _bounds(self, partitions: set[TP]) -> dict[TP, tuple[int, int]]:
        consumer = self._ensure_consumer()
        try:
            # The client would ask for a partition that is gone for as long as a request may take: 90 s.
            async with asyncio.timeout(BOUNDS_SECONDS):
                starts = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
        except TimeoutError as error:
            raise Unavailable(f"the log did not say within {BOUNDS_SECONDS:.0f} s what it holds") from error
        return {tp: (starts[tp], ends[tp]) for tp in partitions}

    def partitions(self, topics: Collection[str]) -> set[TP]:
        """All of these topics, whoever has them, as far as the client knows them."""
        cluster = self._ensure_consumer()._client.cluster
        return {TP(topic, number) for topic in topics for number in cluster.partitions_for_topic(topic) or ()}

    async def read_from(self, starts: Mapping[TP, Start]) -> None:
        await self.call_thread(self._read_from, starts)

    async def _read_from(self, starts: Mapping[TP, Start]) -> None:
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        for tp, start in starts.items():
            if tp in assigned:
                consumer.seek(tp, start.offset)
                self._readings.begin(tp, start)

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[Batch]]:
        resting = cast(BatchApp, self.app).resting
        wanted = {tp for tp in active_partitions if tp.topic not in resting} - self._unreadable.resting()
        ready = self._readings.ready(wanted)
        if not ready:
            await asyncio.sleep(IDLE_SECONDS)
            return {}
        if len(ready) < len(wanted):
            # Nothing wakes this wait when a partition that is full now has room again.
            timeout = IDLE_SECONDS
        fetched = await self._fetch_each(consumer, ready, timeout, max_records)
        # Nothing else of this loop ran since the fetcher moved its position, so the readings are still what they were.
        batches: dict[TP, list[Batch]] = {}
        holes: list[TP] = []
        for key, records in fetched.items():
            tp = TP(key.topic, key.partition)
            reading = self._readings.get(tp)
            if reading is not None and records:
                batches[tp] = [batch] = [reading.hand_on(tp, records)]
                if records[0].offset > batch.start:
                    holes.append(tp)
        if holes:
            await self._drop_what_jumped(consumer, batches, holes)
        return batches

    async def _fetch_each(
        self, consumer: Any, partitions: set[TP], timeout: float | None, max_records: int | None
    ) -> dict[Any, Any]:
        """Partition by partition: the client raises for all of them if it can't read a record of one, and what it has
        read of the others is lost.
        """
        fetcher = consumer._fetcher
        fetched: dict[Any, Any] = {}
        if self.consumer.flow_active and partitions.isdisjoint(fetcher._records):
            await _until_fetched(fetcher, timeout)
        for tp in partitions.intersection(fetcher._records):
            most = 1 if self._unreadable.is_read_singly(tp) else max_records
            try:
                fetched.update(await super()._fetch_records(consumer, {tp}, timeout=0, max_records=most))
            except ConsumerStoppedError:
                raise
            except Exception as error:  # noqa: BLE001 - the parser raises whatever the bytes of others make it raise
                # Half read, it would pass over what it has read so far.
                fetcher._records.pop(tp, None)
                fetcher._notify(fetcher._wait_consume_future)
                reading = self._readings.get(tp)
                if reading is not None:
                    self._unreadable.failed(tp, reading.at, error)
            else:
                if tp in fetched:
                    self._unreadable.moved(tp, is_whole=tp not in fetcher._records)
        return fetched

    async def _drop_what_jumped(self, consumer: Any, batches: dict[TP, list[Batch]], holes: list[TP]) -> None:
        """A hole is nothing (offsets that Kafka never hands out), unless the log now starts behind it.

        Then the client was sent on to the log's new start: the lost range is to be written down before reading on.
        """
        log_starts = await consumer.beginning_offsets(holes)
        has_lost = False
        for tp in holes:
            batch = batches[tp][0]
            if log_starts[tp] > batch.start:
                has_lost = True
                del batches[tp]
                if self._readings.get(tp) is batch.reading:
                    self._readings.end(tp)
        if has_lost:
            app = cast(BatchApp, self.app)
            app.loop.call_soon_threadsafe(lambda: app.seek_in_background(set(app.batches.assignment())))


async def _until_fetched(fetcher: Any, timeout: float | None) -> None:
    """As the client waits for records, without taking any."""
    with fetcher._subscriptions.fetch_context():
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=timeout)
        if done:
            # Raises what stops all partitions: the group may not be read.
            waiter.result()
        else:
            waiter.cancel()


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
        """Forget old acknowledgements, and read from the positions that stand with the rows.

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

    def __init__(self, *args: Any, positions: Positions, topic_ids: TopicIds, **kwargs: Any) -> None:
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
        """What the log holds of each; without those that are gone or have no leader. Raises what Kafka raises.

        The id is asked first: of a topic that is made anew in between, the id is then the old one, and the next look
        tells. The other way round, offsets of the old log would pass for the new one's.
        """
        ids = await self._topic_ids({tp.topic for tp in partitions}) if partitions else {}
        bounds = await self.batches.bounds({tp for tp in partitions if tp.topic in ids})
        return {tp: Extent(start, end, ids[tp.topic]) for tp, (start, end) in bounds.items()}

    @property
    def is_reading(self) -> bool:
        """Whether the last assignment is being read from its positions."""
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
