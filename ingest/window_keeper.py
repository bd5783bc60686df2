"""Keeps the dedupe window of a host: loads it, reads what it missed from the log, saves it. Must not append.

What is saved are entries *and* the offsets below which every record is known, so a restart reads no more of the log
than it must. An offset that nobody here appended (another host, an append in doubt) is a gap; what does not close by
itself is read from the log.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from ingest import metrics
from ingest.dedupe import CLAIMED, VOID, Content, DedupeWindow, content_of, is_location, is_overdue, location_of
from ingest.id_table import IdTable
from ingest.window_store import Chunk, Partition, WindowStore
from schemas.envelope import Location
from schemas.errors import Unavailable

_ENTRY: Final = struct.Struct(">16s16sIqq")
"""Key, fingerprint, partition, offset, arrival in ms: as it is saved, and as other hosts hear of it."""

SAVE_SECONDS: Final = 1.0
GAP_SECONDS: Final = 60.0
MAX_BEYOND_GAP: Final = 50_000
_TICK_ENTRIES: Final = 500
_UNFOLLOWED: Final = 2**63
"""Of a partition that is another host's alone, nothing needs to be known."""


class Seen(NamedTuple):
    """A record of the log, as the window needs it."""

    record_id: str
    fingerprint: bytes
    location: Location
    arrived_ms: int

    @property
    def content(self) -> Content:
        return content_of(self.location.topic, self.record_id, self.fingerprint)


class LogTail(Protocol):
    """The log, for reading back what the window missed."""

    def read_tail(self, positions: Mapping[Partition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        """Every record from `positions`, or where there is none from arrival `since_ms`, to the end as of now."""
        ...

    async def bounds(self) -> dict[Partition, tuple[int, int]]:
        """{partition: (log start, log end)}."""
        ...


OpenTail = Callable[[Sequence[str]], AbstractAsyncContextManager[LogTail]]
"""The tail of some topics."""


class WindowKeeper:
    """One per host. `now_ms` is the wall clock in milliseconds."""

    def __init__(self, table: IdTable, window: DedupeWindow, folder: Path, open_tail: OpenTail) -> None:
        self._table = table
        self._window = window
        self._store = WindowStore(folder)
        self._open_tail = open_tail
        self._known = _Known()
        self._saved_to: dict[Partition, int] = {}
        self._unsaved: dict[str, list[bytes]] = {}

    async def open(self, topics: Sequence[str], now_ms: int) -> None:
        """Load what is on disk, then read the log's tail. Raises what the log raises when it is away."""
        if self._table.is_complete:
            # An earlier keeper's work, in the memory of the host; what it had not saved is a gap now.
            self._known.set(await asyncio.to_thread(self._store.positions))
            return
        started = time.monotonic()
        since_ms = now_ms - self._window.window_ms
        async with self._open_tail(topics) as tail:
            bounds = await tail.bounds()
            positions = await self._load(bounds, since_ms)
            kept = {at: offset for at, offset in positions.items() if at in bounds and offset <= bounds[at][1]}
            read = await self._read(tail, kept, since_ms)
        self._known.set({at: end for at, (_, end) in bounds.items()})
        await self.save(now_ms)
        # All of it is known already; what the spool took meanwhile comes again when it is on the log.
        self._table.collected = self._table.count
        self._table.complete()
        metrics.window_caught_up(self._table.count, read, time.monotonic() - started)

    async def _load(self, bounds: Mapping[Partition, tuple[int, int]], since_ms: int) -> dict[Partition, int]:
        """Take in what is saved, and return the offsets up to which it knows the log."""
        chunks = await asyncio.to_thread(lambda: list(self._store.load(since_ms)))
        positions = chunks[-1].positions if chunks else {}
        # A stored position past the log's end: the topic was made anew, and what we know of the old one is void.
        void = {at[0] for at, offset in positions.items() if offset > bounds.get(at, (0, 0))[1]}
        for chunk in chunks:
            for topic, blob in chunk.entries.items():
                for at in range(0, len(blob) if topic not in void else 0, _TICK_ENTRIES * _ENTRY.size):
                    self.take_in(topic, blob[at : at + _TICK_ENTRIES * _ENTRY.size], bounds, since_ms)
                    await asyncio.sleep(0)
        return positions

    def take_in(
        self, topic: str, blob: bytes, bounds: Mapping[Partition, tuple[int, int]] | None, since_ms: int
    ) -> list[Location]:
        """Entries that were saved, or that another host appended. With `bounds`, only of what the log still holds:
        what it has lost, the provider's next copy may put there again.
        """
        taken = []
        for key, fingerprint, partition, offset, arrived_ms in _ENTRY.iter_unpack(blob):
            start, end = bounds.get((topic, partition), (0, 0)) if bounds is not None else (0, offset + 1)
            if arrived_ms >= since_ms and start <= offset < end:
                location = Location(topic, partition, offset)
                self._window.remember(Content(topic, key, fingerprint), location, arrived_ms, is_ours=False)
                taken.append(location)
        return taken

    def heard(self, blobs: Mapping[str, bytes]) -> None:
        """What another host appended, by topic, as its keeper collected it. What can't be is passed over, and so are
        topics that are not followed here: once they are, they are read from the log.
        """
        for topic, blob in blobs.items():
            if not self._known.follows(topic) or not _is_readable(blob):
                continue
            for location in self.take_in(topic, blob, None, 0):
                self._known.add(location)
            self._unsaved.setdefault(topic, []).append(blob)

    async def learn(self, topics: Sequence[str], now_ms: int) -> None:
        """Take in topics that were not followed until now. Raises what the log raises."""
        async with self._open_tail(topics) as tail:
            bounds = await tail.bounds()
            await self._read(tail, {}, now_ms - self._window.window_ms)
        self._known.set({at: end for at, (_, end) in bounds.items()})

    async def _read(self, tail: LogTail, positions: Mapping[Partition, int], since_ms: int) -> int:
        read = 0
        async for records in tail.read_tail(positions, since_ms):
            for seen in records:
                self._window.remember(seen.content, seen.location, seen.arrived_ms, is_ours=False)
                self._note(seen.content, seen.location, seen.arrived_ms)
            read += len(records)
        return read

    def _note(self, content: Content, location: Location, arrived_ms: int) -> None:
        topic, key, fingerprint = content
        packed = _ENTRY.pack(key, fingerprint, location.partition, location.offset, arrived_ms)
        self._unsaved.setdefault(topic, []).append(packed)

    async def collect(self) -> dict[str, bytes]:
        """What this host appended since the last time, by topic: for the disk, and for other hosts."""
        ours: dict[str, list[bytes]] = {}
        for count, (number, entry) in enumerate(self._table.since(self._table.collected), 1):
            if entry.value == CLAIMED and not is_overdue(entry):
                # Nobody knows yet what becomes of it, and the order of the ring is ours.
                break
            self._table.collected = number + 1
            if entry.value > VOID and entry.owner:
                topic = self._table.name_of(entry.name)
                location = location_of(topic, entry)
                if location is not None:
                    packed = _ENTRY.pack(
                        entry.key, entry.fingerprint, location.partition, location.offset, entry.arrived_ms
                    )
                    ours.setdefault(topic, []).append(packed)
                    self._known.add(location)
            if count % _TICK_ENTRIES == 0:
                # A burst must not keep deliveries waiting.
                await asyncio.sleep(0)
        blobs = {topic: b"".join(entries) for topic, entries in ours.items()}
        for topic, blob in blobs.items():
            self._unsaved.setdefault(topic, []).append(blob)
        return blobs

    async def save(self, now_ms: int) -> None:
        """Write behind. What can't be written (a full disk) waits for the next time; the window goes on in memory."""
        metrics.WINDOW_IDS.set(min(self._table.count, self._table.max_ids))
        if not self._unsaved and self._known.to == self._saved_to:
            return
        unsaved, self._unsaved = self._unsaved, {}
        chunk = Chunk({topic: b"".join(blobs) for topic, blobs in unsaved.items()}, dict(self._known.to), now_ms)
        try:
            await asyncio.to_thread(self._store.append, chunk, now_ms - self._window.window_ms)
        except OSError as error:
            for topic, blobs in self._unsaved.items():
                unsaved.setdefault(topic, []).extend(blobs)
            self._unsaved = unsaved
            metrics.window_not_saved(error)
        else:
            self._saved_to = chunk.positions

    async def close_gaps(self, now_ms: int) -> None:
        """Read from the log what lies in gaps that have stood for a while. Raises `Unavailable`."""
        gaps = self._known.gaps(time.monotonic() - GAP_SECONDS)
        if not gaps:
            return
        async with self._open_tail(sorted({topic for topic, _ in gaps})) as tail:
            bounds = await tail.bounds()
            positions = {at: self._known.to.get(at, 0) for at in bounds}
            await self._read(tail, positions, now_ms - self._window.window_ms)
        self._known.set({at: end for at, (_, end) in bounds.items()})

    async def keep(
        self, now_ms: Callable[[], int], tell: Callable[[dict[str, bytes]], None], stop: asyncio.Event
    ) -> None:
        """Once a second, and a last time when asked to stop: a write under way can't be cancelled, so none is.

        `tell` hears what this host appended.
        """
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SAVE_SECONDS)
            blobs = await self.collect()
            if blobs:
                tell(blobs)
            with contextlib.suppress(Unavailable):
                # Later, then: a gap costs reading at the next start, nothing else.
                await self.close_gaps(now_ms())
            await self.save(now_ms())
        self._store.close()


def _is_readable(blob: bytes) -> bool:
    return len(blob) % _ENTRY.size == 0 and all(
        is_location(partition, offset) for _, _, partition, offset, _ in _ENTRY.iter_unpack(blob)
    )


class _Known:
    """The offsets below which every record of a partition is known, and what is known beyond them."""

    def __init__(self) -> None:
        self.to: dict[Partition, int] = {}
        self._beyond: dict[Partition, set[int]] = {}
        self._gap_since: dict[Partition, float] = {}

    def set(self, ends: Mapping[Partition, int]) -> None:
        for at, end in ends.items():
            self.to[at] = max(self.to.get(at, 0), end)
            self._beyond[at] = {offset for offset in self._beyond.get(at, ()) if offset >= self.to[at]}
            self._close(at)

    def follows(self, topic: str) -> bool:
        return any(followed == topic for followed, _ in self.to)

    def add(self, location: Location) -> None:
        at = (location.topic, location.partition)
        if location.offset < self.to.get(at, _UNFOLLOWED):
            return
        beyond = self._beyond.setdefault(at, set())
        beyond.add(location.offset)
        self._close(at)

    def _close(self, at: Partition) -> None:
        beyond, offset = self._beyond[at], self.to.get(at, 0)
        start = offset
        while offset in beyond:
            beyond.remove(offset)
            offset += 1
        self.to[at] = offset
        if not beyond:
            self._gap_since.pop(at, None)
        elif offset > start or at not in self._gap_since:
            self._gap_since[at] = time.monotonic()

    def gaps(self, before: float) -> list[Partition]:
        """Those that have stood since before then, or have much beyond them."""
        return [at for at, since in self._gap_since.items() if since < before or len(self._beyond[at]) > MAX_BEYOND_GAP]
