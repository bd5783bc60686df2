"""The dedupe window: which record ids are on the log, with which fingerprints, where. Must not append or answer.

The log is the truth and the window a cache of its tail: it is written behind (`window_store`), and after a restart it
reads what it missed back from the log before the first answer. So nothing is fsynced on the hot path, and a crash can
only cost reading, never an event.
"""

import asyncio
import contextlib
import hashlib
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from ingest import metrics
from ingest.window_store import Chunk, Partition, WindowStore
from schemas.envelope import Location
from schemas.topics import source_of, topic_of

_ENTRY: Final = struct.Struct(">16sIqq")
"""Fingerprint (its first 16 bytes), partition, offset, arrival in ms."""

KEY_BYTES: Final = 16
ENTRY_BYTES: Final = KEY_BYTES + _ENTRY.size
FLUSH_SECONDS: Final = 1.0


class Seen(NamedTuple):
    """A record of the log, as the window needs it."""

    record_id: str
    fingerprint: bytes
    location: Location
    arrived_ms: int


class LogTail(Protocol):
    """The log, for reading back what the window missed."""

    def read_tail(self, positions: Mapping[Partition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        """Every record from `positions`, or where there is none from arrival `since_ms`, to the end as of now."""
        ...

    async def bounds(self) -> dict[Partition, tuple[int, int]]:
        """{partition: (log start, log end)}."""
        ...


def key_of(source: str, record_id: str) -> bytes:
    return hashlib.blake2b(f"{source}\0{record_id}".encode(), digest_size=KEY_BYTES).digest()


class DedupeWindow:
    """Record ids of the last `window_ms` (by arrival), at most `max_ids` of them; about 200 bytes of memory each."""

    def __init__(self, window_ms: int, max_ids: int) -> None:
        self._window_ms = window_ms
        self._max_ids = max_ids
        self._entries: dict[bytes, bytes] = {}
        self._order: deque[tuple[int, bytes]] = deque()
        self._bounds: dict[Partition, tuple[int, int]] = {}
        self._known_to: dict[Partition, int] = {}
        self._saved_to: dict[Partition, int] = {}
        self._unsaved: dict[str, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, source: str, key: bytes, fingerprint: bytes, now_ms: int) -> Location | None:
        """Where this very content is on the log already, if it came within the window."""
        entries = self._entries.get(key)
        if entries is None:
            return None
        wanted = fingerprint[:16]
        for stored, partition, offset, arrived_ms in _ENTRY.iter_unpack(entries):
            if stored == wanted and now_ms - arrived_ms <= self._window_ms:
                topic = topic_of(source)
                start, end = self._bounds.get((topic, partition), (0, 0))
                # A record that the log has lost is not on the log: the provider's next copy must get in.
                if start <= offset < end:
                    return Location(topic, partition, offset)
        return None

    def remember(self, key: bytes, fingerprint: bytes, location: Location, arrived_ms: int) -> bool:
        """Note a durable record. Returns whether the id was known with another content: a conflict."""
        topic, partition, offset = location
        value = _ENTRY.pack(fingerprint[:16], partition, offset, arrived_ms)
        self._unsaved.setdefault(topic, []).append(key + value)
        at = (topic, partition)
        start, end = self._bounds.get(at, (0, 0))
        if offset >= end:
            self._bounds[at] = (start, offset + 1)
        if self._known_to.get(at) == offset:
            # A gap (another writer, an append in doubt) stays to be read from the log at the next start.
            self._known_to[at] = offset + 1
        return self._insert(key, value, arrived_ms)

    def _insert(self, key: bytes, value: bytes, arrived_ms: int) -> bool:
        known = self._entries.get(key, b"")
        if known and value[:16] in {known[i : i + 16] for i in range(0, len(known), _ENTRY.size)}:
            return False
        self._entries[key] = known + value
        self._order.append((arrived_ms, key))
        while len(self._order) > self._max_ids:
            self._evict()
        return bool(known)

    def expire(self, now_ms: int) -> None:
        """Forget what left the window."""
        while self._order and now_ms - self._order[0][0] > self._window_ms:
            self._evict()
        metrics.WINDOW_IDS.set(len(self._entries))

    def _evict(self) -> None:
        _, key = self._order.popleft()
        remaining = self._entries.pop(key, b"")[_ENTRY.size :]
        if remaining:
            self._entries[key] = remaining

    async def open(self, folder: Path, log: LogTail, now_ms: int) -> WindowStore:
        """Load what is on disk, then read the log's tail. Raises what the log raises when it is away."""
        started = time.monotonic()
        since_ms = now_ms - self._window_ms
        self._bounds = await log.bounds()
        store = await asyncio.to_thread(WindowStore, folder)
        saved, positions = await asyncio.to_thread(_load_all, store, since_ms)
        # A stored position past the log's end: the topic was made anew, and what we know of the old one is void.
        void = {at[0] for at, offset in positions.items() if offset > self._bounds.get(at, (0, 0))[1]}
        for topic, entries in saved:
            if topic not in void:
                self._load(entries, since_ms)
        kept = {at: offset for at, offset in positions.items() if at[0] not in void and at in self._bounds}
        read = await self._read_tail(log, kept, since_ms)
        self._known_to = {at: end for at, (_, end) in self._bounds.items()}
        await self.save(store, now_ms)
        metrics.window_caught_up(len(self), read, time.monotonic() - started)
        return store

    async def learn(self, log: LogTail, now_ms: int) -> None:
        """Take in topics that were not followed until now; `log` has these alone. Raises what the log raises."""
        bounds = await log.bounds()
        self._bounds |= bounds
        await self._read_tail(log, {}, now_ms - self._window_ms)
        self._known_to |= {at: end for at, (_, end) in bounds.items()}

    async def _read_tail(self, log: LogTail, positions: Mapping[Partition, int], since_ms: int) -> int:
        read = 0
        async for records in log.read_tail(positions, since_ms):
            for seen in records:
                key = key_of(source_of(seen.location.topic), seen.record_id)
                self.remember(key, seen.fingerprint, seen.location, seen.arrived_ms)
            read += len(records)
        return read

    def _load(self, entries: bytes, since_ms: int) -> None:
        for at in range(0, len(entries), ENTRY_BYTES):
            value = entries[at + KEY_BYTES : at + ENTRY_BYTES]
            arrived_ms = _ENTRY.unpack(value)[3]
            if arrived_ms >= since_ms:
                self._insert(entries[at : at + KEY_BYTES], value, arrived_ms)

    async def save(self, store: WindowStore, now_ms: int) -> None:
        """Write behind. What can't be written (a full disk) waits for the next time; the window goes on in memory."""
        if not self._unsaved and self._known_to == self._saved_to:
            return
        unsaved, self._unsaved = self._unsaved, {}
        chunk = Chunk({topic: b"".join(entries) for topic, entries in unsaved.items()}, dict(self._known_to), now_ms)
        try:
            await asyncio.to_thread(store.append, chunk, now_ms - self._window_ms)
        except OSError as error:
            for topic, entries in self._unsaved.items():
                unsaved.setdefault(topic, []).extend(entries)
            self._unsaved = unsaved
            metrics.window_not_saved(error)
        else:
            self._saved_to = chunk.positions


def _load_all(store: WindowStore, since_ms: int) -> tuple[list[tuple[str, bytes]], dict[Partition, int]]:
    """Entries by topic, in the order of writing, and the last positions; one chunk's directory in memory at a time."""
    entries: list[tuple[str, bytes]] = []
    positions: dict[Partition, int] = {}
    for chunk in store.load(since_ms):
        entries += chunk.entries.items()
        positions = chunk.positions
    return entries, positions


async def save_periodically(
    window: DedupeWindow, store: WindowStore, now_ms: Callable[[], int], stop: asyncio.Event
) -> None:
    """Once a second, and a last time when asked to stop: a write under way can't be cancelled, so none is."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), FLUSH_SECONDS)
        window.expire(now_ms())
        await window.save(store, now_ms())
