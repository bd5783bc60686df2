"""Appends to Kafka: whatever waits when the broker is free goes into one batch. Must not verify or dedupe.

The producer is idempotent with `acks=all`. A batch in doubt is retried by the client until the broker answers, so a
record can come late but not twice; the delivery that waited for it may meanwhile have been answered 503.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Final, cast

from aiokafka import AIOKafkaProducer, errors
from aiokafka.errors import KafkaError

from ingest import metrics
from ingest.log.producer import learn_partitions, stop_producer
from ingest.log.record_batch import LogRecord, RecordBatch, VerifiedRecord, Waiter
from ingest.outage_log import ANY_TOPIC, Story
from schemas.envelope import Location
from schemas.errors import LogUnavailable, RedriveError, Unavailable
from schemas.masking import reason_of

MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
STOP_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 2.0
"""Between two looks for a missing topic: each is a line in the client's log."""

LANES: Final = 2
"""Batches of a topic that may be on their way: one at the broker, and one at hand for when it answers."""

REFUSED: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordTooLargeError,
    errors.RecordListTooLargeError,
    errors.CorruptRecordException,
    errors.InvalidTimestampError,
    errors.PolicyViolationError,
)
"""The broker's errors for a record that it will never take, however often it is sent."""


class Refused(RedriveError):
    """The broker will never take this record."""

    code = "record_refused"


class EventLog:
    """The log, for writing. One instance per process."""

    def __init__(
        self,
        make_producer: Callable[[], AIOKafkaProducer],
        topics: Sequence[str],
        stall_seconds: float,
        story: Story | None = None,
        acked: Callable[[str, int, int, int], None] = lambda *_: None,
    ) -> None:
        """`acked` hears topic, partition, first offset and number of records of each batch that Kafka took."""
        self._make_producer = make_producer
        self._topics = list(topics)
        self._stall_seconds = stall_seconds
        self._producer: AIOKafkaProducer | None = None
        self._open: dict[str, RecordBatch] = {}
        self._turns: dict[str, int] = {}
        self._in_flight: dict[str, int] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, dict[RecordBatch, None]] = {}
        self._pending_bytes: dict[str, int] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._look_at = 0.0
        self._story = story or Story()
        self._acked = acked

    async def start(self) -> None:
        """Raises `Unavailable` while no broker answers."""
        self._producer = await self._started_producer()

    async def follow(self, topics: Sequence[str]) -> None:
        """Also append to these topics. Raises `Unavailable` while no broker answers."""
        if self._producer is None:
            raise Unavailable("the log is not taking appends")
        wanted = [*self._topics, *topics]
        await learn_partitions(self._producer, wanted)
        self._topics = wanted

    async def _started_producer(self) -> AIOKafkaProducer:
        producer = self._make_producer()
        try:
            await producer.start()
            await learn_partitions(producer, self._topics)
        except (KafkaError, Unavailable) as error:
            await stop_producer(producer)
            raise LogUnavailable(f"Kafka does not answer: {reason_of(error)}") from error
        return producer

    async def stop(self) -> None:
        """Wait for what is on its way, as far as the broker lets us."""
        deadline = time.monotonic() + STOP_SECONDS
        # The end of one batch sends the next that waits, so this ends when nothing is left.
        while self._sending and (remaining := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._sending, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        if self._renewal is not None:
            self._renewal.cancel()
        if self._producer is not None:
            await stop_producer(self._producer)

    def is_taking(self, topic: str) -> bool:
        """False while the topic's oldest batch has waited longer than anybody would wait for its answer.

        By topic: one that has no leader, or is gone, must not refuse the deliveries of every other source.
        """
        if self._producer is None or self._pending_bytes.get(topic, 0) > MAX_PENDING_BYTES:
            return False
        oldest = next(iter(self._waiting.get(topic, ())), None)
        return oldest is None or time.monotonic() - oldest.opened < self._stall_seconds

    def append(self, record: VerifiedRecord, waiter: Waiter) -> None:
        """Put a record into the batch that leaves next. Raises `Unavailable` rather than wait without bound."""
        self.append_aside(record, waiter)

    def append_aside(self, record: LogRecord, waiter: Waiter) -> None:
        """The same for topics beside those of the sources, where nothing must be verified."""
        topic = record.topic
        if not self.is_taking(topic):
            raise Unavailable("the log is not taking appends")
        batch = self._open.get(topic)
        if batch is None or not batch.put(record):
            if batch is not None:
                self._send(topic)
            batch = self._open_batch(topic)
            if not batch.put(record):
                self._abandon(topic)
                raise Unavailable("the record does not fit into a batch")
            if self._has_lane(topic):
                # At the end of this tick: whatever else is ready now goes along.
                asyncio.get_running_loop().call_soon(self._send_if_waiting, topic)
        size = len(record.value) + 1024
        batch.bytes += size
        self._pending_bytes[topic] = self._pending_bytes.get(topic, 0) + size
        batch.waiters.append(waiter)

    async def append_apart(self, topic: str, records: Sequence[VerifiedRecord]) -> list[Location]:
        """Put as many of a topic's records on the log as fit into one batch of their own, and say where they are.

        For what has time: it never shares a batch with what somebody waits for. Raises `Unavailable`, `Refused`.
        """
        # Before the producer is taken: it may be renewed while we look.
        await self._look_for(topic)
        if not self.is_taking(topic):
            raise Unavailable("the log is not taking appends")
        producer = cast(AIOKafkaProducer, self._producer)
        batch = RecordBatch(producer.create_batch(), topic, self._next_partition(topic))
        count = sum(1 for _ in takewhile(batch.put, records))
        if not count:
            raise Refused("the record does not fit into a batch")
        batch.builder.close()
        try:
            sent = await producer.send_batch(batch.builder, topic, partition=batch.partition)
        except (KafkaError, AssertionError) as error:
            raise _failure(error) from error
        try:
            metadata = await sent
        except KafkaError as error:
            self._note_failure(topic, error, count)
            self._renew_producer(producer)
            raise _failure(error) from error
        if metadata.offset < 0:
            raise Unavailable("the broker does not say where the batch is")
        self._story.took(topic)
        self._acked(topic, batch.partition, metadata.offset, count)
        return [Location(topic, batch.partition, metadata.offset + position) for position in range(count)]

    async def _look_for(self, topic: str) -> None:
        """A topic that was missing may be there by now: the client would hear of it within half a minute."""
        producer, now = self._producer, time.monotonic()
        if producer is not None and now >= self._look_at and not producer.client.cluster.partitions_for_topic(topic):
            self._look_at = now + LOOK_SECONDS
            # A client that is stopped meanwhile never answers.
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.client.force_metadata_update(), LOOK_SECONDS)

    def _open_batch(self, topic: str) -> RecordBatch:
        """On the next partition: order is not needed, so full batches beat a hash of the key."""
        producer = cast(AIOKafkaProducer, self._producer)
        batch = RecordBatch(producer.create_batch(), topic, self._next_partition(topic))
        batch.deadline = asyncio.get_running_loop().call_later(self._stall_seconds, self._say_overdue, batch)
        self._open[topic] = batch
        return batch

    def _say_overdue(self, batch: RecordBatch) -> None:
        self._story.overdue(batch.topic, self._stall_seconds)
        batch.say_overdue()

    def _note_failure(self, topic: str, error: BaseException, records: int) -> None:
        metrics.APPEND_FAILURES.labels(type(error).__name__).inc()
        if isinstance(error, REFUSED):
            metrics.append_refused(topic, error, records)
        else:
            self._story.failed(topic, error)

    def _next_partition(self, topic: str) -> int:
        producer = cast(AIOKafkaProducer, self._producer)
        partitions = sorted(producer.client.cluster.partitions_for_topic(topic) or ())
        if not partitions:
            raise Unavailable(f"the topic {topic} is not there: `redrive topics --apply` creates it")
        turn = self._turns[topic] = self._turns.get(topic, -1) + 1
        return int(partitions[turn % len(partitions)])

    def _send_if_waiting(self, topic: str) -> None:
        """While the lanes of a topic are taken, what comes gathers in the next batch."""
        if topic in self._open and self._has_lane(topic):
            self._send(topic)

    def _has_lane(self, topic: str) -> bool:
        return self._in_flight.get(topic, 0) < LANES

    def _send(self, topic: str) -> None:
        batch = self._open.pop(topic)
        # The client counts a batch's records when it takes it and encodes them later: none may join in between.
        batch.builder.close()
        self._waiting.setdefault(topic, {})[batch] = None
        self._in_flight[topic] = self._in_flight.get(topic, 0) + 1
        task = asyncio.create_task(self._deliver(topic, batch, cast(AIOKafkaProducer, self._producer)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(self, topic: str, batch: RecordBatch, producer: AIOKafkaProducer) -> None:
        """See one batch through, then let the next one go. Whatever happens, each who waits hears of it."""
        sent = None
        try:
            sent = await producer.send_batch(batch.builder, topic, partition=batch.partition)
            metadata = await sent
            if metadata.offset < 0:
                # The broker knew the batch from an earlier try, and does not say where it is: in doubt.
                raise Unavailable("the broker does not say where the batch is")
        except Exception as error:  # noqa: BLE001 - a producer that is being renewed may fail in any way
            self._note_failure(topic, error, len(batch.waiters))
            self._finish(topic, batch)
            batch.settle(None)
            if sent is None:
                # It never left, so the producer's sequence has no hole: this batch alone is refused.
                self._send_if_waiting(topic)
            else:
                self._renew_producer(producer)
            return
        self._finish(topic, batch)
        metrics.APPEND_SECONDS.observe(time.monotonic() - batch.opened)
        self._story.took(topic)
        self._acked(topic, batch.partition, metadata.offset, len(batch.waiters))
        batch.settle(metadata.offset)
        self._send_if_waiting(topic)

    def _finish(self, topic: str, batch: RecordBatch) -> None:
        del self._waiting[topic][batch]
        self._close(topic, batch)
        self._in_flight[topic] = self._in_flight.get(topic, 0) - 1

    def _close(self, topic: str, batch: RecordBatch) -> None:
        if batch.deadline is not None:
            batch.deadline.cancel()
        self._pending_bytes[topic] = self._pending_bytes.get(topic, 0) - batch.bytes

    def _abandon(self, topic: str) -> RecordBatch:
        """Take back a batch that was never sent."""
        batch = self._open.pop(topic)
        self._close(topic, batch)
        return batch

    def _renew_producer(self, broken: AIOKafkaProducer) -> None:
        """A failed batch leaves a hole in an idempotent producer's sequence: later batches would all be refused."""
        if self._producer is not broken:
            return
        self._producer = None
        for topic in list(self._open):
            self._abandon(topic).settle(None)
        self._renewal = asyncio.create_task(self._renew(broken))

    async def _renew(self, broken: AIOKafkaProducer) -> None:
        await stop_producer(broken)
        while self._producer is None:
            try:
                self._producer = await self._started_producer()
                self._story.took(ANY_TOPIC)
            except Exception as error:  # noqa: BLE001 - without a producer nothing is appended ever again
                self._note_failure(ANY_TOPIC, error, 0)
                await asyncio.sleep(1)


def _failure(error: BaseException) -> RedriveError:
    if isinstance(error, REFUSED):
        return Refused(f"the broker refuses it: {type(error).__name__}")
    return LogUnavailable(f"the log did not take it: {reason_of(error)}")
