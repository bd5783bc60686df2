"""Appends to Kafka: whatever waits when the broker is free goes into one batch. Must not verify or dedupe.

The producer is idempotent with `acks=all`. A batch in doubt is retried by the client until the broker answers, so a
record can come late but not twice; the delivery that waited for it may meanwhile have been answered 503.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from ingest import metrics
from ingest.producer import learn_partitions, stop_producer
from schemas.envelope import Identity, Location, VerifiedDelivery, record_headers
from schemas.errors import Unavailable
from schemas.settings import Source

MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
LANES: Final = 2
"""Batches of a topic that may be on their way: one at the broker, and one at hand for when it answers."""


Settle = Callable[[Location | None], None]
"""Hears of a record's outcome: where it is, or None."""


class Append:
    """A record on its way. Whoever waits hears where it is, or None where that can't be said in time."""

    __slots__ = ("is_overdue", "settle", "waiting")

    def __init__(self, settle: Settle, answer: Settle) -> None:
        self.settle = settle
        self.waiting = [answer]
        self.is_overdue = False

    def wait(self, answer: Settle) -> None:
        """Let another one wait. Raises `Unavailable` when it has taken too long already."""
        if self.is_overdue:
            raise Unavailable("the append is in doubt")
        self.waiting.append(answer)

    def answer(self, location: Location | None) -> None:
        """Each who waits is answered once."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer(location)


class _Batch:
    """Records that leave together."""

    def __init__(self, builder: BatchBuilder, partition: int) -> None:
        self.builder = builder
        self.partition = partition
        self.appends: list[Append] = []
        self.deadline: asyncio.TimerHandle | None = None
        self.bytes = 0
        self.opened = time.monotonic()

    def give_up_waiting(self) -> None:
        for append in self.appends:
            append.is_overdue = True
            append.answer(None)


class EventLog:
    """The log, for writing. One instance per process."""

    def __init__(
        self, make_producer: Callable[[], AIOKafkaProducer], topics: Sequence[str], stall_seconds: float
    ) -> None:
        self._make_producer = make_producer
        self._topics = list(topics)
        self._stall_seconds = stall_seconds
        self._producer: AIOKafkaProducer | None = None
        self._open: dict[str, _Batch] = {}
        self._turns: dict[str, int] = {}
        self._in_flight: dict[str, int] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, dict[_Batch, None]] = {}
        self._pending_bytes: dict[str, int] = {}
        self._renewal: asyncio.Task[None] | None = None

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
            raise Unavailable(f"Kafka does not answer: {error}") from error
        return producer

    async def stop(self) -> None:
        """Wait for what is on its way, as far as the broker lets us."""
        deadline = time.monotonic() + self._stall_seconds
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

    def append(
        self, source: Source, verified: VerifiedDelivery, identity: Identity, settle: Settle, answer: Settle
    ) -> Append:
        """Put a verified delivery on its source's topic; the one way there. See `append_record`."""
        headers = record_headers(verified, identity, source.provider.kept_headers)
        delivery = verified.delivery
        key = identity.record_id.encode()
        return self.append_record(source.topic, key, delivery.body, delivery.arrived_ms, headers, settle, answer)

    def append_record(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        timestamp_ms: int,
        headers: list[tuple[str, bytes]],
        settle: Settle,
        answer: Settle,
    ) -> Append:
        """Put a record into the batch that leaves next. Raises `Unavailable` rather than wait without bound.

        `answer` is called once, within the time that anybody would wait: None when the log refused the record or has
        not answered yet. `settle` is called once and before, with None only for what the log refused for good; it
        hears of the outcome however late it comes, also when nobody waits any more.
        """
        if not self.is_taking(topic):
            raise Unavailable("the log is not taking appends")
        batch = self._open.get(topic)
        if batch is None or not self._put(batch, key, value, timestamp_ms, headers):
            if batch is not None:
                self._send(topic)
            batch = self._open_batch(topic)
            if not self._put(batch, key, value, timestamp_ms, headers):
                self._abandon(topic)
                raise Unavailable("the record does not fit into a batch")
            if self._has_lane(topic):
                # At the end of this tick: whatever else is ready now goes along.
                asyncio.get_running_loop().call_soon(self._send_if_waiting, topic)
        size = len(value) + 1024
        batch.bytes += size
        self._pending_bytes[topic] = self._pending_bytes.get(topic, 0) + size
        append = Append(settle, answer)
        batch.appends.append(append)
        return append

    @staticmethod
    def _put(batch: _Batch, key: bytes, body: bytes, timestamp_ms: int, headers: list[tuple[str, bytes]]) -> bool:
        return batch.builder.append(key=key, value=body, timestamp=timestamp_ms, headers=headers) is not None

    def _open_batch(self, topic: str) -> _Batch:
        """On the next partition: order is not needed, so full batches beat a hash of the key."""
        producer = cast(AIOKafkaProducer, self._producer)
        partitions = sorted(producer.client.cluster.partitions_for_topic(topic) or ())
        if not partitions:
            raise Unavailable(f"the topic {topic} is not there: `redrive topics --apply` creates it")
        turn = self._turns[topic] = self._turns.get(topic, -1) + 1
        batch = _Batch(producer.create_batch(), partitions[turn % len(partitions)])
        batch.deadline = asyncio.get_running_loop().call_later(self._stall_seconds, batch.give_up_waiting)
        self._open[topic] = batch
        return batch

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
        task = asyncio.create_task(self._deliver(topic, batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(self, topic: str, batch: _Batch) -> None:
        """See one batch through, then let the next one go."""
        producer = cast(AIOKafkaProducer, self._producer)
        try:
            sent = await producer.send_batch(batch.builder, topic, partition=batch.partition)
        except (KafkaError, AssertionError) as error:
            # It never left, so the producer's sequence has no hole: this batch alone is refused.
            self._fail(topic, batch, error)
            self._send_if_waiting(topic)
            return
        try:
            metadata = await sent
        except KafkaError as error:
            self._fail(topic, batch, error)
            self._renew_producer(producer)
            return
        self._finish(topic, batch)
        metrics.APPEND_SECONDS.observe(time.monotonic() - batch.opened)
        located = [
            (append, Location(topic, batch.partition, metadata.offset + position))
            for position, append in enumerate(batch.appends)
        ]
        for append, location in located:
            append.settle(location)
        # Everything is settled before the first who waits is answered.
        for append, location in located:
            append.answer(location)
        self._send_if_waiting(topic)

    def _finish(self, topic: str, batch: _Batch) -> None:
        del self._waiting[topic][batch]
        self._close(topic, batch)
        self._in_flight[topic] = self._in_flight.get(topic, 0) - 1

    def _close(self, topic: str, batch: _Batch) -> None:
        if batch.deadline is not None:
            batch.deadline.cancel()
        self._pending_bytes[topic] = self._pending_bytes.get(topic, 0) - batch.bytes

    def _abandon(self, topic: str) -> _Batch:
        """Take back a batch that was never sent."""
        batch = self._open.pop(topic)
        self._close(topic, batch)
        return batch

    def _fail(self, topic: str, batch: _Batch, error: BaseException) -> None:
        metrics.append_failed(topic, error, len(batch.appends))
        self._finish(topic, batch)
        self._refuse(batch)

    def _refuse(self, batch: _Batch) -> None:
        for append in batch.appends:
            append.settle(None)
        batch.give_up_waiting()

    def _renew_producer(self, broken: AIOKafkaProducer) -> None:
        """A failed batch leaves a hole in an idempotent producer's sequence: later batches would all be refused."""
        if self._producer is not broken:
            return
        self._producer = None
        for topic in list(self._open):
            self._refuse(self._abandon(topic))
        self._renewal = asyncio.create_task(self._renew(broken))

    async def _renew(self, broken: AIOKafkaProducer) -> None:
        await stop_producer(broken)
        while self._producer is None:
            try:
                self._producer = await self._started_producer()
            except Unavailable as error:
                metrics.append_failed("*", error, 0)
                await asyncio.sleep(1)
