"""The thread in which the consumer reads: one fetch of one partition is one batch. Must not look into records."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from processors.partition_state import Batch, PartitionStates, Start
from processors.unreadable import UnreadablePartitions
from schemas.errors import Unavailable

log: Final = logging.getLogger("redrive.processors")
IDLE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
BOUNDS_SECONDS: Final = 10.0


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Reads, in the consumer's own thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._readings = PartitionStates()

    @property
    def _unreadable(self) -> UnreadablePartitions:
        return cast(UnreadablePartitions, cast(Any, self.app).unreadable)

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
        resting = cast(Any, self.app).resting
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
            app = cast(Any, self.app)
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
