"""Keeps the dedupe window of a host: loads it, reads missed records from the log, saves it. Must not append.

It saves the entries *and* the offsets below which every record is known, so a restart reads no more of the log than it
must. An offset that nobody here appended (another host, an append in doubt) is a gap. A gap that does not close by
itself is read from the log.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ingest import metrics
from ingest.dedupe.appended import appended
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.known_offsets import KnownOffsets
from ingest.dedupe.log_reading import LogTail, OpenTail
from ingest.dedupe.newest_entries import NewestEntries
from ingest.dedupe.other_log import Comparison, shortened
from ingest.dedupe.store import ENTRY, Chunk, WindowStore, is_readable
from ingest.dedupe.window import Content, DedupeWindow
from schemas.envelope import Location
from schemas.errors import Unavailable
from schemas.topics import FindTopicIds, TopicPartition

SAVE_SECONDS: Final = 1.0
GAP_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 2.0
"""The time between two checks for topics that were created again."""
_TICK_ENTRIES: Final = 500


class WindowKeeper:
    """One per host. `now_ms` is the wall clock in milliseconds."""

    def __init__(
        self, table: IdTable, window: DedupeWindow, folder: Path, open_tail: OpenTail, topic_ids: FindTopicIds
    ) -> None:
        self._table = table
        self._window = window
        # More than the table has room for need not be known after a restart.
        self._store = WindowStore(folder, table.max_ids * ENTRY.size)
        self._open_tail = open_tail
        self._topic_ids = topic_ids
        self._topics: set[str] = set()
        self._unread: set[str] = set()
        """Topics of which all has to be read yet."""
        self._known = KnownOffsets()
        self._logs: dict[str, str] = {}
        """Kafka's id of the topic that the window speaks of, by topic."""
        self._eras: dict[str, int] = {}
        """The topics in the table, as this keeper knows them: another process may void one."""
        self._void: set[str] = set()
        self._untold: set[str] = set()
        """Topics of which what was saved before is void: the disk does not know it yet, and other hosts do not."""
        self._deaf_until: dict[str, float] = {}
        self._loading: Comparison | None = None
        self._saved: Chunk | None = None
        self._unsaved: NewestEntries[str] = NewestEntries(self._store.max_bytes)

    async def open(self, topics: Sequence[str], now_ms: int) -> None:
        """Load what is on disk, then read the log's tail. Raises what the log raises when it is away."""
        self._topics |= {*topics}
        if self._table.is_complete:
            # An earlier keeper's work, in the memory of the host; what it had not saved is a gap now.
            last = await asyncio.to_thread(self._store.last)
            self._known.set(last.positions)
            self._logs, self._eras = last.logs, last.eras
            return
        started = time.monotonic()
        since_ms = now_ms - self._window.window_ms
        # Before the log is read: the next check finds a topic that is created again meanwhile.
        logs = await self._ask_logs()
        self._note_eras(topics)
        loading = self._loading = Comparison()
        async with self._open_tail(topics) as tail:
            bounds = await tail.bounds()
            positions = await self._load(bounds, logs, since_ms)
            loading.is_other_log |= bool(shortened(positions, bounds))
            read = await self._read(tail, loading.starts(positions, bounds), since_ms)
            if loading.is_other_log:
                # Kafka came back with older data: what was saved is of records that the log has lost.
                metrics.window_void(topics)
                await asyncio.to_thread(self._store.clear)
                for topic in topics:
                    self._window.forget(topic)
                self._note_eras(topics)
                self._unsaved = NewestEntries(self._store.max_bytes)
                read = await self._read(tail, {}, since_ms)
        self._loading = None
        self._known.set({at: end for at, (_, end) in bounds.items()})
        self._logs = logs
        await self.save(now_ms)
        # All of it is known already; what the spool took meanwhile comes again when it is on the log.
        self._table.collected = self._table.count
        self._table.complete()
        metrics.window_caught_up(self._table.count, read, time.monotonic() - started)

    async def _ask_logs(self) -> dict[str, str]:
        """Without those of topics that are missing, or of a Kafka that gives none. Raises `Unavailable`."""
        found = await self._topic_ids(sorted(self._topics))
        return {topic: str(one) for topic, one in found.items() if one is not None}

    async def _load(
        self, bounds: Mapping[TopicPartition, tuple[int, int]], logs: Mapping[str, str], since_ms: int
    ) -> dict[TopicPartition, int]:
        """Take in what is saved of these logs, and return the offsets up to which it knows them."""
        positions, saved = await asyncio.to_thread(self._store.current, since_ms, logs)
        for topic, blob in saved:
            for at in range(0, len(blob), _TICK_ENTRIES * ENTRY.size):
                self.take_in(topic, blob[at : at + _TICK_ENTRIES * ENTRY.size], bounds, since_ms)
                await asyncio.sleep(0)
        return positions

    def take_in(
        self, topic: str, blob: bytes, bounds: Mapping[TopicPartition, tuple[int, int]] | None, since_ms: int
    ) -> list[Location]:
        """Entries that were saved, or that another host appended. With `bounds`, only of what the log still holds:
        what it has lost, the provider's next copy may put there again.
        """
        taken = []
        for key, fingerprint, partition, offset, arrived_ms in ENTRY.iter_unpack(blob):
            start, end = bounds.get((topic, partition), (0, 0)) if bounds is not None else (0, offset + 1)
            if arrived_ms >= since_ms and start <= offset < end:
                location = Location(topic, partition, offset)
                self._window.remember(Content(topic, key, fingerprint), location, arrived_ms, is_ours=False)
                taken.append(location)
                if self._loading is not None:
                    self._loading.saved(location, key)
        return taken

    def heard(self, chunk: Chunk) -> None:
        """Add the appends of another host, as its keeper collected them. It leaves out unreadable ones, topics that are
        not followed here, and topics whose new creation only one host has seen. Raises `Unavailable`.
        """
        for topic in chunk.void:
            if self._known.follows(topic) and chunk.logs.get(topic) == self._logs.get(topic):
                self._window.forget(topic)
                self._note_eras([topic])
                self._begin_again(topic)
        for topic, blob in chunk.entries.items():
            log = self._logs.get(topic)
            # Just after a void, it may be of what the log lost; what is not is read as a gap.
            is_late = time.monotonic() < self._deaf_until.get(topic, 0.0)
            if is_late or not self._known.follows(topic) or not is_readable(blob) or chunk.logs.get(topic, log) != log:
                continue
            for location in self.take_in(topic, blob, None, 0):
                self._known.add(location)
            self._unsaved.add(topic, blob)

    async def learn(self, topics: Sequence[str], now_ms: int) -> None:
        """Take in topics that were not followed until now. Raises what the log raises."""
        self._topics |= {*topics}
        logs = await self._ask_logs()
        self._note_eras(topics)
        async with self._open_tail(topics) as tail:
            bounds = await tail.bounds()
            await self._read(tail, {}, now_ms - self._window.window_ms)
        self._known.set({at: end for at, (_, end) in bounds.items()})
        self._logs |= {topic: log for topic, log in logs.items() if topic in topics}

    async def look(self, now_ms: int) -> None:
        """Forget a topic that was created again, and read the new one. Raises `Unavailable`.

        A copy of what was on the old one would be answered with a location that is not there, and be lost.
        """
        for topic, log in (await self._ask_logs()).items():
            known = self._logs.get(topic)
            if known is None and self._known.follows(topic):
                # From the time before ids were kept.
                self._logs[topic] = log
            elif known != log and topic not in self._unread:
                if known is not None:
                    metrics.window_forgotten(topic)
                self._window.forget(topic)
                self._begin_again(topic)
        for topic in self._topics - self._unread:
            if self._table.number_of(topic) != self._eras.get(topic):
                # A process has seen that its log lost the tail.
                self._begin_again(topic)
                self._untold.add(topic)
        if self._unread:
            await self.learn(sorted(self._unread), now_ms)
            self._unread.clear()

    def _begin_again(self, topic: str) -> None:
        """The window of a topic is void; all of its log is to be read."""
        self._known.forget(topic)
        self._unsaved.forget(topic)
        self._void.add(topic)
        self._deaf_until[topic] = time.monotonic() + GAP_SECONDS
        self._unread.add(topic)

    def _note_eras(self, topics: Sequence[str]) -> None:
        self._eras |= {topic: self._table.number_of(topic) for topic in topics}

    async def compare(self) -> None:
        """After an outage: void what is known of a log that came back shorter. Raises `Unavailable`."""
        known = self._known.ends()
        async with self._open_tail(sorted(self._topics)) as tail:
            for topic in shortened(known, await tail.bounds()):
                metrics.window_void([topic])
                self._window.forget(topic)

    async def watch(self, now_ms: Callable[[], int]) -> None:
        """For ever; while Kafka is away, nothing is known to have changed."""
        was_away = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if was_away:
                    await self.compare()
                await self.look(now_ms())
                was_away = False
            except Unavailable:
                was_away = True

    async def _read(self, tail: LogTail, positions: Mapping[TopicPartition, int], since_ms: int) -> int:
        read = 0
        async for records in tail.read_tail(positions, since_ms):
            for seen in records:
                content = seen.content
                if self._loading is not None:
                    self._loading.found(seen.location, content.key)
                self._window.remember(content, seen.location, seen.arrived_ms, is_ours=False)
                self._note(content, seen.location, seen.arrived_ms)
            read += len(records)
        return read

    def _note(self, content: Content, location: Location, arrived_ms: int) -> None:
        topic, key, fingerprint = content
        packed = ENTRY.pack(key, fingerprint, location.partition, location.offset, arrived_ms)
        self._unsaved.add(topic, packed)

    async def collect(self) -> Chunk:
        """The appends of this host since the last call: for the disk, and for other hosts."""
        ours: NewestEntries[str] = NewestEntries(self._store.max_bytes)
        for count, found in enumerate(appended(self._table), 1):
            if found is not None:
                location, packed = found
                ours.add(location.topic, packed)
                self._known.add(location)
            if count % _TICK_ENTRIES == 0:
                # A burst must not keep deliveries waiting.
                await asyncio.sleep(0)
        self._unsaved.add_all(ours)
        untold, self._untold = self._untold, set()
        return Chunk(dict(ours.items()), {}, 0, dict(self._logs), sorted(untold))

    async def save(self, now_ms: int) -> None:
        """Write behind. A failed write (a full disk) is tried again next time; the window works on in memory."""
        metrics.WINDOW_IDS.set(min(self._table.count, self._table.max_ids))
        saved = self._saved
        is_same = saved and (self._known.to, self._logs) == (saved.positions, saved.logs)
        if is_same and not self._unsaved and not self._void:
            return
        unsaved, self._unsaved = self._unsaved, NewestEntries(self._store.max_bytes)
        void, self._void = self._void, set()
        entries = dict(unsaved.items())
        chunk = Chunk(entries, dict(self._known.to), now_ms, dict(self._logs), sorted(void), dict(self._eras))
        try:
            await asyncio.to_thread(self._store.append, chunk, now_ms - self._window.window_ms)
        except OSError as error:
            for topic in self._void:
                unsaved.forget(topic)
            unsaved.add_all(self._unsaved)
            self._unsaved = unsaved
            self._void |= void
            metrics.window_not_saved(error)
        else:
            self._saved = chunk

    async def close_gaps(self, now_ms: int) -> None:
        """Read from the log the records of gaps that have existed for a while. Raises `Unavailable`."""
        if not (gaps := self._known.gaps(time.monotonic() - GAP_SECONDS)):
            return
        async with self._open_tail(sorted({topic for topic, _ in gaps})) as tail:
            bounds = await tail.bounds()
            positions = {at: self._known.to.get(at, 0) for at in bounds}
            await self._read(tail, positions, now_ms - self._window.window_ms)
        self._known.set({at: end for at, (_, end) in bounds.items()})

    async def keep(self, now_ms: Callable[[], int], tell: Callable[[Chunk], None], stop: asyncio.Event) -> None:
        """Once a second, and a last time when asked to stop: a write under way can't be cancelled, so none is.

        `tell` hears what this host appended.
        """
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SAVE_SECONDS)
            chunk = await self.collect()
            if chunk.entries or chunk.void:
                tell(chunk)
            with contextlib.suppress(Unavailable):
                # Later, then: a gap costs reading at the next start, nothing else.
                await self.close_gaps(now_ms())
            await self.save(now_ms())
        self._store.close()
