"""Where a selection lies in the log, and reading it. Must not write anything."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from replay.answering import WORK_SECONDS
from replay.log.log_client import LogClient
from replay.log.topic_ids import Logs, is_other
from replay.selection.selection import Range
from schemas.errors import InvalidSelection, LogUnavailable, RecordsGone, UnreadableRecord
from schemas.masking import describe, reason_of
from schemas.unreadable import is_unreadable

_POLL_MS: Final = 1000
SIDE_BY_SIDE: Final = 6
"""Partitions read at once. Each is fetched ahead: this bounds the memory, however many partitions there are."""

_CAREFUL_RECORDS: Final = 500
"""Read one by one of a partition, where a record can't be read, before all are fetched together again."""

NEAR_OFFSETS: Final = 500
"""Records so near to one another are better read in one go: a seek costs more."""

SILENCE_SECONDS: Final = WORK_SECONDS
"""A broker that returns none of the offsets that the log was known to hold for this long is taken to be away."""

_LOOKS: Final = 3
_LOOK_SECONDS: Final = 0.5
"""A broker that has just started may not know every topic yet: it is asked more than once."""


class LogReader(LogClient):
    """Reads ranges of the log: for a replay, a rebuild, a proof, or one record."""

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
                raise LogUnavailable(f"Kafka at {self._cluster.servers} returns no records")
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
        """The fetched records of the current range. At its end: on to the next, or no more is fetched."""
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
