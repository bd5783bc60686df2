"""A client of the log that asks what it holds: starts, ends, times and ids. Must not read records."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError

from replay.answering import ANSWER_SECONDS, while_answering
from replay.log.broker import Broker, stop_consumer
from replay.log.topic_ids import ids_of
from replay.selection.selection import Range
from schemas.cluster import Cluster
from schemas.errors import InvalidSelection, LogUnavailable
from schemas.masking import reason_of
from schemas.topics import TopicPartition, is_folded

_FETCH_BYTES: Final = 2 * 2**20
"""The most that one fetch returns of a partition; it becomes one batch."""

_ANSWER_BYTES: Final = 2 * _FETCH_BYTES
"""The most that the broker answers at once: the client holds up to three copies of an answer."""


class LogClient:
    """A consumer without a group, which moves nobody's offsets. Use as an async context manager.

    `patience`: a broker that has been silent for so long, once this client has started, is given up.
    """

    def __init__(self, cluster: Cluster, patience: float = ANSWER_SECONDS) -> None:
        self._cluster = cluster
        self._patience = patience
        self._broker = Broker(cluster)
        self._consumer = AIOKafkaConsumer(
            **cluster.client_options(),
            client_id="redrive-replay",
            enable_auto_commit=False,
            # A range that the log no longer holds fails the replay; the default would jump to the end and call it done.
            auto_offset_reset="none",
            # A larger record comes all the same, alone.
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=_ANSWER_BYTES,
        )

    async def __aenter__(self) -> Self:
        try:
            async with while_answering(self._broker):
                await self._consumer.start()
        except KafkaError as error:
            await stop_consumer(self._consumer)
            raise self._away(error) from error
        except BaseException:
            # The caller has gone, or gave up waiting.
            await stop_consumer(self._consumer)
            raise
        # A task of the client's that is stopped before it began would cancel us.
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_consumer(self._consumer)

    def _answering(self) -> AbstractAsyncContextManager[None]:
        return while_answering(self._broker, patience=self._patience)

    def _away(self, error: KafkaError) -> LogUnavailable:
        return LogUnavailable(f"Kafka does not answer at {self._cluster.servers}: {reason_of(error)}")

    async def logs(self, topics: Collection[str]) -> dict[str, UUID | None]:
        """Which log each topic is now; without topics that are gone. Raises `LogUnavailable`."""
        try:
            async with self._answering():
                return await ids_of(self._consumer._client, topics) if topics else {}
        except KafkaError as error:
            raise self._away(error) from error

    async def bounds(self, topics: Sequence[str]) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """The log's starts and ends as of now, without topics that are gone.

        Later records are not part of a plan.
        """
        async with self._answering():
            partitions = await self._partitions(await self._there(topics))
            starts, ends = await self._extents(partitions)
        return {tuple(tp): at for tp, at in starts.items()}, {tuple(tp): at for tp, at in ends.items()}

    async def since(self, topics: Sequence[str], moment_ms: int) -> dict[TopicPartition, int]:
        """The first offset of a record that arrived at that moment or later; without partitions that have none, and
        without topics that are gone.
        """
        async with self._answering():
            asked = {tp: max(moment_ms, 0) for tp in await self._partitions(await self._there(topics))}
            found = await self._consumer.offsets_for_times(asked) if asked else {}
        return {tuple(tp): at.offset for tp, at in found.items() if at is not None}

    async def held(self, ranges: Sequence[Range]) -> tuple[list[Range], list[Range]]:
        """(what the log holds, what it does not): for ranges of one offset each, of topics that may be gone as well."""
        async with self._answering():
            known = set(await self._consumer.topics())
            wanted = {KafkaPartition(r.topic, r.partition) for r in ranges if r.topic in known}
            partitions = sorted(wanted & set(await self._partitions(sorted({tp.topic for tp in wanted}))))
            starts, ends = await self._extents(partitions)
        found: tuple[list[Range], list[Range]] = ([], [])
        for r in ranges:
            tp = KafkaPartition(r.topic, r.partition)
            found[not starts.get(tp, r.end) <= r.start < ends.get(tp, 0)].append(r)
        return found

    async def ends(self, partitions: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The log's end of each; without those that are gone or have no leader, which must not hold up the rest."""
        async with self._answering():
            for topic in {topic for topic, _ in partitions}:
                await self._consumer._client.add_topic(topic)
            cluster = self._consumer._client.cluster
            known = [KafkaPartition(*tp) for tp in partitions]
            led = [tp for tp in known if cluster.leader_for_partition(tp) not in (None, -1)]
            found = await self._consumer.end_offsets(led) if led else {}
        return {(tp.topic, tp.partition): end for tp, end in found.items()}

    async def extents(self, partitions: set[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """{partition: (log start, log end)}; without those that are gone. Raises `LogUnavailable`."""
        try:
            async with self._answering():
                there = sorted({topic for topic, _ in partitions} & await self._consumer.topics())
                known = [tp for tp in await self._partitions(there) if (tp.topic, tp.partition) in partitions]
                starts, ends = await self._extents(known)
        except KafkaError as error:
            raise LogUnavailable(f"Kafka did not return the log's offsets: {reason_of(error)}") from error
        return {(tp.topic, tp.partition): (starts[tp], ends[tp]) for tp in known}

    async def folded_extents(self) -> dict[tuple[str, int], tuple[int, int]]:
        """{partition: (log start, log end)} of every topic that is folded; without partitions that have no leader.

        Raises `LogUnavailable`.
        """
        try:
            async with self._answering():
                there = sorted(filter(is_folded, await self._consumer.topics()))
                known = await self._partitions(there)
                cluster = self._consumer._client.cluster
                led = [tp for tp in known if cluster.leader_for_partition(tp) not in (None, -1)]
                starts, ends = await self._extents(led)
        except KafkaError as error:
            raise LogUnavailable(f"Kafka did not return the log's offsets: {reason_of(error)}") from error
        return {(tp.topic, tp.partition): (starts[tp], ends[tp]) for tp in led}

    async def _extents(
        self, partitions: Sequence[KafkaPartition]
    ) -> tuple[dict[KafkaPartition, int], dict[KafkaPartition, int]]:
        """The client refuses to be asked for nothing."""
        if not partitions:
            return {}, {}
        return await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)

    async def tails(self, topic: str, count: int) -> list[Range]:
        """The last `count` offsets of every partition."""
        async with self._answering():
            partitions = await self._partitions([topic])
            starts, ends = await self._extents(partitions)
        ranges = [Range(topic, tp.partition, max(ends[tp] - count, starts[tp]), ends[tp]) for tp in partitions]
        return [r for r in ranges if len(r)]

    async def _there(self, topics: Sequence[str]) -> list[str]:
        try:
            known = await self._consumer.topics()
        except KafkaError as error:
            raise self._away(error) from error
        return [topic for topic in topics if topic in known]

    async def _partitions(self, topics: Sequence[str]) -> list[KafkaPartition]:
        there = await self._there(topics)
        for topic in topics:
            # The public API knows the partitions of topics that it is subscribed to, and we are to none.
            await self._consumer._client.add_topic(topic)
        if missing := [topic for topic in topics if topic not in there]:
            raise InvalidSelection(f"there is no topic {', '.join(missing)}")
        found = []
        for topic in topics:
            found += [KafkaPartition(topic, p) for p in sorted(self._consumer.partitions_for_topic(topic) or ())]
        return found
