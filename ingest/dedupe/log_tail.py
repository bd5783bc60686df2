"""The log's tail, read back into the dedupe window at start. Must not write."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError

from ingest.dedupe.log_reading import Seen
from ingest.log.passing_over import PassingOver
from schemas.cluster import Cluster
from schemas.envelope import Location, Record
from schemas.errors import LogUnavailable, PoisonRecord, Unavailable
from schemas.masking import reason_of
from schemas.providers import fingerprint_of
from schemas.topics import MAX_RECORD_BYTES, TopicPartition

log: Final = logging.getLogger("redrive.ingest")
_POLL_MS: Final = 1000
_LARGEST_STEP: Final = 4096
"""A batch may hold thousands of records that can't be read. Another one passed over costs a copy on the log."""


class KafkaLogTail:
    """Reads the topics of the configured sources."""

    def __init__(self, cluster: Cluster, topics: Sequence[str]) -> None:
        self._cluster = cluster
        self._topics = topics
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> "KafkaLogTail":
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client_options(),
            client_id="redrive-ingest-window",
            enable_auto_commit=False,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        try:
            await self._consumer.start()
        except KafkaError as error:
            await self._consumer.stop()
            raise LogUnavailable(f"Kafka does not answer: {reason_of(error)}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("enter the tail before reading it")
        return self._consumer

    async def _partitions(self) -> list[KafkaPartition]:
        found = []
        existing = await self._started.topics()
        for topic in self._topics:
            if topic not in existing:
                # Its source answers 503 until somebody creates it; the others must not wait for that.
                line = {"action": "catch_up", "outcome": "missing", "code": "topic_missing", "topic": topic}
                log.error("the topic %s is missing: `redrive topics --apply`", topic, extra=line)
                continue
            await self._started._client.add_topic(topic)
            partitions = self._started.partitions_for_topic(topic)
            if not partitions:
                raise Unavailable(f"the topic {topic} has no partitions yet")
            found += [KafkaPartition(topic, partition) for partition in sorted(partitions)]
        return found

    async def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        try:
            partitions = await self._partitions()
            starts = await self._started.beginning_offsets(partitions)
            ends = await self._started.end_offsets(partitions)
        except KafkaError as error:
            raise LogUnavailable(f"Kafka does not answer: {reason_of(error)}") from error
        return {(tp.topic, tp.partition): (starts[tp], ends[tp]) for tp in partitions}

    async def read_tail(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        try:
            async for records in self._read(positions, since_ms):
                yield records
        except KafkaError as error:
            raise LogUnavailable(f"Kafka does not answer: {reason_of(error)}") from error

    async def _read(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        consumer = self._started
        partitions = await self._partitions()
        if not partitions:
            return
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.beginning_offsets(partitions)
        by_time = await consumer.offsets_for_times({tp: max(since_ms, 0) for tp in partitions})
        remaining = {}
        for tp in partitions:
            found = by_time.get(tp)
            known = positions.get((tp.topic, tp.partition))
            start = known if known is not None else found.offset if found else ends[tp]
            start = max(start, starts[tp])
            if start < ends[tp]:
                consumer.seek(tp, start)
                remaining[tp] = ends[tp]
            else:
                consumer.pause(tp)
        # The tables hold an unknown copy once all the same; an ingress that does not start loses more.
        reader = PassingOver(consumer, "catch_up", _LARGEST_STEP)
        while remaining:
            for records in (await reader.getmany(*remaining, timeout_ms=_POLL_MS)).values():
                yield [seen for record in records if (seen := _seen(record)) is not None]
                await asyncio.sleep(0)
            for tp in list(remaining):
                # By position, not by the last record: markers at the end of the log are not records.
                if await consumer.position(tp) >= remaining[tp]:
                    del remaining[tp]


def _seen(raw: Any) -> Seen | None:
    """None for what somebody else wrote into the topic: it has no id of ours."""
    try:
        record = Record.decode(
            raw.topic,
            raw.partition,
            raw.offset,
            raw.timestamp,
            raw.headers,
            raw.value,
        )
    except PoisonRecord:
        return None
    location = Location(record.location.topic, record.location.partition, record.location.offset)
    return Seen(record.record_id, fingerprint_of(record), location, record.arrived_ms)
