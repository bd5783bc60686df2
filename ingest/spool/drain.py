"""From the spool to the log, once the log takes appends again. Must not decide what is a duplicate: the window does.

A segment is offered whole as often as it takes: what got onto the log on an earlier try, by another process or by an
append that everybody thought lost, the window knows, and it is not appended again.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Final

from ingest import metrics
from ingest.dedupe.window import Content, DedupeWindow
from ingest.log.event_log import EventLog, Refused
from ingest.spool.segment import Segment, SpooledRecord
from ingest.spool.spool import Spool
from ingest.spool.unreadable import PASSING
from schemas.envelope import Location
from schemas.errors import Unavailable

CHUNK_RECORDS: Final = 500
CHUNK_BYTES: Final = 512 * 1024
"""A small lot at a time: live deliveries go first."""

RETRY_SECONDS: Final = 0.5


class Drain:
    """One process's spool, emptied for as long as the process lives."""

    def __init__(self, spool: Spool, log: EventLog, window: DedupeWindow) -> None:
        self._spool = spool
        self._log = log
        self._window = window
        self._suspects: set[Content] = set()
        self._landed: dict[Content, tuple[Location, int, int]] = {}
        """On the log (with arrival, and era of the topic), and not known to the window yet."""

    async def run(self) -> None:
        """For ever; a log that is away is asked again."""
        while True:
            await self._spool.has_records.wait()
            try:
                is_done = any(map(self._log.is_taking, self._spool.topics)) and await self._drain_all()
            except Exception as error:  # noqa: BLE001 - a drain that ends would leave what was acknowledged behind
                metrics.spool_failed(error, 0)
                is_done = False
            if not is_done:
                await asyncio.sleep(RETRY_SECONDS)

    async def _drain_all(self) -> bool:
        """False where something has to stay for now."""
        # Every segment, not only the oldest: a topic that is missing must not hold up the others, nor a bad disk.
        return all([await self._drain_apart(segment) for segment in await self._spool.sealed()])

    async def _drain_apart(self, segment: Segment) -> bool:
        try:
            return await self._drain(segment)
        except (Unavailable, OSError) as error:
            metrics.spool_failed(error, 0)
            return False

    async def _drain(self, segment: Segment) -> bool:
        """False where something has to stay for now. Raises `Unavailable` and OSError."""
        try:
            data = await asyncio.to_thread(segment.path.read_bytes)
        except OSError as error:
            if error.errno in PASSING:
                raise
            await self._release(segment.contents)
            self._spool.pass_over(segment, error)
            return True
        records = await asyncio.to_thread(lambda: list(segment.read(data)))
        if len(records) < segment.records:
            await self._release(segment.lose(records))
        away = set()
        for chunk in _chunks(records):
            try:
                self._remember_landed()
                rest = [one for one in chunk if one.content not in segment.refused and not self._is_done(one.content)]
                while rest and rest[0].record.topic not in away:
                    rest = rest[await self._append(rest, segment) :]
            except Unavailable:
                away.add(chunk[0].record.topic)
        if away or segment.has_unkept_damage:
            return False
        await self._release(segment.contents)
        self._spool.drop(segment)
        if not self._spool.has_records.is_set():
            self._suspects.clear()
        metrics.spool_drained(len(records))
        return True

    async def _release(self, contents: Iterable[Content]) -> None:
        """The segment has them no longer: a copy of what is not on the log is accepted. Raises `Unavailable`."""
        for count, content in enumerate(contents, 1):
            self._window.end_spooled(content)
            if count % CHUNK_RECORDS == 0:
                # Live deliveries go first.
                await asyncio.sleep(0)

    def _is_done(self, content: Content) -> bool:
        return self._window.find(content) is not None

    async def _append(self, records: Sequence[SpooledRecord], segment: Segment) -> int:
        """How many of them are done with, from the front. Raises `Unavailable`."""
        together = list(takewhile(lambda one: one.content not in self._suspects, records)) or records[:1]
        try:
            locations = await self._log.append_apart(together[0].record.topic, [one.record for one in together])
        except Refused as refusal:
            if len(together) > 1:
                # Which of them it is, only each by itself can tell, once there is a producer again.
                self._suspects.update(one.content for one in together)
                raise Unavailable("a record among them is refused") from refusal
            self._spool.set_aside(together[0], str(refusal))
            segment.refused.add(together[0].content)
            self._window.end_spooled(together[0].content)
            return 1
        for one, location in zip(together, locations, strict=False):
            self._landed[one.content] = (location, one.record.timestamp_ms, self._window.era(one.record.topic))
        self._remember_landed()
        return len(locations)

    def _remember_landed(self) -> None:
        """Raises `Unavailable`, and then what the window has not heard is kept for the next time."""
        for content, (location, arrived_ms, era) in list(self._landed.items()):
            self._window.remember(content, location, arrived_ms, era=era)
            del self._landed[content]


def _chunks(records: Sequence[SpooledRecord]) -> Iterator[list[SpooledRecord]]:
    """Lots of one topic each."""
    by_topic: dict[str, list[SpooledRecord]] = {}
    for one in records:
        by_topic.setdefault(one.record.topic, []).append(one)
    for found in by_topic.values():
        chunk: list[SpooledRecord] = []
        size = 0
        for one in found:
            if chunk and (len(chunk) == CHUNK_RECORDS or size + len(one.record.value) > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(one)
            size += len(one.record.value)
        if chunk:
            yield chunk
