"""Where a selection lies in the log, and reading it. Must not write anything."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from replay.answering import ANSWER_SECONDS, WORK_SECONDS, while_answering
from replay.log.broker import Broker, stop_consumer
from replay.log.topic_ids import Logs, ids_of, is_other
from replay.selection.offsets import Place
from replay.selection.selection import Range
from schemas.cluster import Cluster
from schemas.errors import InvalidSelection, LogUnavailable, RecordsGone, UnreadableRecord
from schemas.masking import describe, reason_of
from schemas.topics import is_folded
from schemas.unreadable import is_unreadable

_POLL_MS: Final = 1000
_FETCH_BYTES: Final = 2 * 2**20
"""Of a partition at once; it becomes one batch."""

_ANSWER_BYTES: Final = 2 * _FETCH_BYTES
"""Of the broker at once: the client holds up to three copies of an answer."""

SIDE_BY_SIDE: Final = 6
"""Partitions read at once. Each is fetched ahead: this bounds the memory, however many partitions there are."""

_CAREFUL_RECORDS: Final = 500
"""Read one by one of a partition, where a record can't be read, before all are fetched together again."""

NEAR_OFFSETS: Final = 500
"""Records so near to one another are better read in one go: a seek costs more."""

SILENCE_SECONDS: Final = WORK_SECONDS
"""So long without any of the offsets that the log was known to hold, and the broker is taken to be away."""

_LOOKS: Final = 3
_LOOK_SECONDS: Final = 0.5
"""A broker that has just started may not know every topic yet: it is asked more than once."""


class LogReader:
    """A consumer without a group: reading for a replay moves nobody's offsets. Use as an async context manager.

    `patience`: a broker that has been silent for so long, once this reader has started, is given up.
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

    async def __aenter__(self) -> "LogReader":
        try:
            async with while_answering(self._broker):
                await self._consumer.start()
        except KafkaError as error:
            await stop_consumer(self._consumer)
            raise self._away(error) from error
        except BaseException:
            # Who asked has gone, or gave up waiting.
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

    async def _require(self, logs: Logs, topics: set[str]) -> None:
        """Raises `RecordsGone` where a topic is another log than offsets are of, or gone."""
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_LOOK_SECONDS)
            now = await self.logs(topics)
            others = sorted(topic for topic in topics if topic not in now or is_other(logs[topic], now[topic]))
            if not others:
                return
        again = " and created again" if others[0] in now else ""
        raise RecordsGone(
            f"records gone: the topic {others[0]} was deleted{again} since its offsets were looked up, and offsets of"
            " the old log name none of its records; select what the log holds now"
        )

    async def bounds(self, topics: Sequence[str]) -> tuple[dict[Place, int], dict[Place, int]]:
        """The log's starts and ends as of now, without topics that are gone.

        What arrives later is not part of a plan.
        """
        async with self._answering():
            partitions = await self._partitions(await self._there(topics))
            starts, ends = await self._extents(partitions)
        return {tuple(tp): at for tp, at in starts.items()}, {tuple(tp): at for tp, at in ends.items()}

    async def since(self, topics: Sequence[str], moment_ms: int) -> dict[Place, int]:
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
            wanted = {TopicPartition(r.topic, r.partition) for r in ranges if r.topic in known}
            partitions = sorted(wanted & set(await self._partitions(sorted({tp.topic for tp in wanted}))))
            starts, ends = await self._extents(partitions)
        found: tuple[list[Range], list[Range]] = ([], [])
        for r in ranges:
            tp = TopicPartition(r.topic, r.partition)
            found[not starts.get(tp, r.end) <= r.start < ends.get(tp, 0)].append(r)
        return found

    async def ends(self, partitions: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The log's end of each; without those that are gone or have no leader, which must not hold up the rest."""
        async with self._answering():
            for topic in {topic for topic, _ in partitions}:
                await self._consumer._client.add_topic(topic)
            cluster = self._consumer._client.cluster
            known = [TopicPartition(*tp) for tp in partitions]
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
            raise LogUnavailable(f"the log did not say what it holds: {reason_of(error)}") from error
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
            raise LogUnavailable(f"the log did not say what it holds: {reason_of(error)}") from error
        return {(tp.topic, tp.partition): (starts[tp], ends[tp]) for tp in led}

    async def _extents(
        self, partitions: Sequence[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """The client refuses to be asked for nothing."""
        if not partitions:
            return {}, {}
        return await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)

    async def record(self, at: Range) -> Any | None:
        """The record at one offset; None where the log does not hold it, or never did. Raises `LogUnavailable`."""
        partition = TopicPartition(at.topic, at.partition)
        try:
            async with self._answering():
                if partition not in await self._partitions([at.topic]):
                    return None
                starts, ends = await self._extents([partition])
                if not starts[partition] <= at.start < ends[partition]:
                    return None
                found = [record async for _, records in self.read([at]) for record in records]
        except InvalidSelection:
            return None
        except KafkaError as error:
            raise LogUnavailable(f"the log did not give the record: {reason_of(error)}") from error
        return found[0] if found else None

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

    async def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        there = await self._there(topics)
        for topic in topics:
            # The public API knows the partitions of topics that it is subscribed to, and we are to none.
            await self._consumer._client.add_topic(topic)
        if missing := [topic for topic in topics if topic not in there]:
            raise InvalidSelection(f"there is no topic {', '.join(missing)}")
        found = []
        for topic in topics:
            found += [TopicPartition(topic, p) for p in sorted(self._consumer.partitions_for_topic(topic) or ())]
        return found

    async def read(self, ranges: Sequence[Range], logs: Logs | None = None) -> AsyncIterator[tuple[Range, list[Any]]]:
        """Batches of records: (the part of the log that the batch covers, its records).

        The parts of a partition follow one another without a break up to the end of its range. Some partitions are read
        side by side, then the next: those with the most to read first, so that they end together. Raises
        `LogUnavailable` where the log falls silent: the client would wait for ever. `logs`: the offsets are of these,
        and nothing is read of others; raises `RecordsGone`. Raises `UnreadableRecord` once all that can be read was: of
        a partition with such a record, what comes before it.
        """
        unreadable: dict[str, str] = {}
        waiting: dict[TopicPartition, deque[Range]] = {}
        for part in sorted(ranges, key=lambda r: (r.topic, r.partition, r.start)):
            waiting.setdefault(TopicPartition(part.topic, part.partition), deque()).append(part)
        largest_first = sorted(waiting, key=lambda tp: -sum(map(len, waiting[tp])))
        for first in range(0, len(largest_first), SIDE_BY_SIDE):
            group = {tp: waiting.pop(tp) for tp in largest_first[first : first + SIDE_BY_SIDE]}
            async for part, records in self._read_side_by_side(group, logs or {}, unreadable):
                yield part, records
        if unreadable:
            raise UnreadableRecord(unreadable)

    async def _read_side_by_side(
        self, waiting: dict[TopicPartition, deque[Range]], logs: Logs, unreadable: dict[str, str]
    ) -> AsyncIterator[tuple[Range, list[Any]]]:
        await self._require(logs, {tp.topic for tp in waiting if tp.topic in logs})
        self._consumer.assign(list(waiting))
        for tp, parts in waiting.items():
            self._consumer.seek(tp, parts[0].start)
        heard_at = time.monotonic()
        while waiting:
            held_to = {tp.topic for tp in waiting if tp.topic in logs}
            try:
                fetched = await self._fetch(waiting, unreadable)
            except OffsetOutOfRangeError:
                await self._require(logs, held_to)
                raise
            # After the fetch: a log that is still there is the one that was read.
            await self._require(logs, held_to)
            if not fetched and time.monotonic() - heard_at > SILENCE_SECONDS:
                raise LogUnavailable(f"Kafka at {self._cluster.servers} gives no records")
            batches = deque([await self._cut(tp, waiting, fetched.pop(tp, [])) for tp in list(waiting)])
            while batches:
                # Not kept here while it is folded.
                part, records = batches.popleft()
                if len(part):
                    yield part, records
                    # However long who reads took over it.
                    heard_at = time.monotonic()

    async def _fetch(
        self, waiting: dict[TopicPartition, deque[Range]], unreadable: dict[str, str]
    ) -> dict[TopicPartition, list[Any]]:
        """Ends the waiting for a partition that is at a record which can't be read, and notes that record."""
        try:
            found: dict[TopicPartition, list[Any]] = await self._consumer.getmany(*waiting, timeout_ms=_POLL_MS)
            return found
        except Exception as error:
            if not is_unreadable(error):
                raise
        # The client drops what it had taken of the others, and would pass over what it had read of this one.
        for tp, parts in waiting.items():
            self._consumer.seek(tp, parts[0].start)
        found = {}
        for tp, parts in list(waiting.items()):
            try:
                await self._read_singly(tp, parts[0].end, found.setdefault(tp, []))
            except Exception as error:
                if not is_unreadable(error):
                    raise
                at = await self._consumer.position(tp)
                self._consumer.seek(tp, at)
                if at == parts[0].start:
                    unreadable[f"{tp.topic}/{tp.partition}/{at}"] = describe(error)
                    del waiting[tp]
                    self._consumer.pause(tp)
        return found

    async def _read_singly(self, tp: TopicPartition, end: int, found: list[Any]) -> None:
        """No further than it must: what is behind the end may be what can't be read."""
        while len(found) < _CAREFUL_RECORDS and await self._consumer.position(tp) < end:
            records = (await self._consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=1)).get(tp)
            if not records:
                return
            found += records

    async def _cut(
        self, tp: TopicPartition, waiting: dict[TopicPartition, deque[Range]], fetched: list[Any]
    ) -> tuple[Range, list[Any]]:
        """What was fetched of the range that is read. At its end: on to the next, or no more is fetched."""
        part = waiting[tp][0]
        position = await self._consumer.position(tp)
        covered = min(position, part.end)
        if covered < part.end:
            waiting[tp][0] = Range(part.topic, part.partition, covered, part.end)
        elif len(waiting[tp]) > 1:
            waiting[tp].popleft()
            self._consumer.seek(tp, waiting[tp][0].start)
        else:
            del waiting[tp]
            self._consumer.pause(tp)
        read = Range(part.topic, part.partition, part.start, covered)
        return read, [record for record in fetched if record.offset < part.end]
