"""A log in memory, behind the interface of `EventLog` and of `LogTail`: late, away, refusing, or gone before it answers.

Must not lose what it has taken: that is Kafka's to promise.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from ingest.dedupe.log_reading import Seen
from ingest.dedupe.window import Content, content_of
from ingest.log.event_log import Refused
from ingest.log.record_batch import LogRecord, VerifiedRecord, Waiter
from schemas.envelope import Location
from schemas.errors import Unavailable
from schemas.topics import TopicPartition
from tests.simulation.scheduler import Node, Scheduler

STALL_SECONDS = 0.5
PARTITIONS = 2


class Broker:
    """The log, and how it behaves at the moment."""

    def __init__(self, scheduler: Scheduler, fingerprints: Mapping[tuple[str, bytes, bytes], bytes]) -> None:
        self.scheduler = scheduler
        self.node = scheduler.node("broker")
        self.log: dict[TopicPartition, list[LogRecord]] = {}
        self.is_up = True
        self.is_calm = False
        """No append is refused, and no answer lost."""
        self.refuses: set[Content] = set()
        self.in_doubt: set[Content] = set()
        """Contents of which the outcome of an append was unknown to whoever made it."""
        self._fingerprints = fingerprints

    def content(self, record: LogRecord) -> Content:
        fingerprint = self._fingerprints[record.topic, record.key, record.value]
        return content_of(record.topic, record.key.decode(), fingerprint)

    def contents(self) -> list[Content]:
        return [self.content(record) for records in self.log.values() for record in records]

    def ends(self) -> dict[TopicPartition, int]:
        return {at: len(records) for at, records in self.log.items()}

    def take(self, records: Sequence[LogRecord]) -> list[Location]:
        topic = records[0].topic
        partition = self.scheduler.random.randrange(PARTITIONS)
        known = self.log.setdefault((topic, partition), [])
        start = len(known)
        known += records
        return [Location(topic, partition, start + number) for number in range(len(records))]

    def chance(self, share: float) -> bool:
        return not self.is_calm and self.scheduler.random.random() < share

    async def topic_ids(self, topics: Collection[str]) -> dict[str, UUID | None]:
        """As a Kafka that gives none."""
        return dict.fromkeys(topics)

    @asynccontextmanager
    async def open_tail(self, topics: Sequence[str]) -> "AsyncIterator[_Tail]":
        if not self.is_up:
            raise Unavailable("the broker is away")
        yield _Tail(self, topics)


class _Tail:
    def __init__(self, broker: Broker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._topics = topics

    async def read_tail(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        broker = self._broker
        for (topic, partition), end in (await self.bounds()).items():
            records = broker.log.get((topic, partition), [])
            first = positions.get((topic, partition), 0)
            yield [
                Seen(
                    record.key.decode(),
                    broker._fingerprints[record.topic, record.key, record.value],
                    Location(topic, partition, first + number),
                    record.timestamp_ms,
                )
                for number, record in enumerate(records[first : end[1]])
            ]

    async def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        return {
            (topic, partition): (0, len(self._broker.log.get((topic, partition), ())))
            for topic in self._topics
            for partition in range(PARTITIONS)
        }


class _Flight:
    """Records on their way to the broker or back."""

    def __init__(self, records: Sequence[LogRecord], since: float) -> None:
        self.records = records
        self.since = since
        self.has_arrived = False


class ProcessLog:
    """What `EventLog` is to one process."""

    def __init__(self, broker: Broker, node: Node) -> None:
        self._broker = broker
        self._node = node
        self._is_started = False
        self._flights: dict[_Flight, None] = {}

    async def start(self) -> None:
        if not self._broker.is_up:
            raise Unavailable("the broker is away")
        self._is_started = True

    def is_taking(self, topic: str) -> bool:
        waiting = [flight.since for flight in self._flights if flight.records[0].topic == topic]
        return self._is_started and (not waiting or self._node.time() - min(waiting) < STALL_SECONDS)

    def append(self, record: VerifiedRecord, waiter: Waiter) -> None:
        if not self.is_taking(record.topic) or self._broker.content(record) in self._broker.refuses:
            raise Unavailable("the log is not taking appends")
        flight = self._begin([record])
        overdue = self._node.call_later(STALL_SECONDS, waiter.overdue)

        async def see_through() -> None:
            locations = await self._fly(flight)
            overdue.cancel()
            waiter.settled(locations[0] if locations else None)

        self._node.spawn(see_through)

    async def append_apart(self, topic: str, records: Sequence[VerifiedRecord]) -> list[Location]:
        if not self.is_taking(topic):
            raise Unavailable("the log is not taking appends")
        together = records[: self._broker.scheduler.random.randint(1, len(records))]
        if not self._broker.refuses.isdisjoint(self._broker.content(one) for one in together):
            raise Refused("too large")
        locations = await self._fly(self._begin(together))
        if locations is None:
            raise Unavailable("the log did not take it")
        return locations

    def _begin(self, records: Sequence[LogRecord]) -> _Flight:
        flight = _Flight(records, self._node.time())
        self._flights[flight] = None
        return flight

    async def _fly(self, flight: _Flight) -> list[Location] | None:
        """Where they are; None where they did not get onto the log, or where the answer was lost."""
        broker = self._broker
        locations = None
        await asyncio.sleep(self._delay())
        while not broker.is_up:
            if broker.chance(0.05):
                break
            await asyncio.sleep(0.2)
        if broker.is_up and not broker.chance(0.02):
            flight.has_arrived = True
            locations = broker.take(flight.records)
            is_answer_lost = broker.chance(0.04)
            await asyncio.sleep(self._delay())
            if is_answer_lost:
                locations = None
                broker.in_doubt.update(map(broker.content, flight.records))
        del self._flights[flight]
        return locations

    def _delay(self) -> float:
        order = self._broker.scheduler.random
        return order.random() * (2.0 if self._broker.chance(0.05) else 0.02)

    def crash(self) -> None:
        """What had left this process may still arrive, and nobody hears of it."""
        broker = self._broker
        for flight in self._flights:
            broker.in_doubt.update(map(broker.content, flight.records))
            if not flight.has_arrived and broker.chance(0.5):
                broker.node.call_later(self._delay(), broker.take, flight.records)
