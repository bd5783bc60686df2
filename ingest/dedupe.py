"""The dedupe window: which record ids are on the log, with which fingerprints, where. Must not append or answer.

The log is the truth and the window a cache of its tail: it is written behind to SQLite, and after a restart it reads
what it missed back from the log before the first answer. So nothing is fsynced on the hot path, and a crash can only
cost reading, never an event.
"""

import asyncio
import hashlib
import sqlite3
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from ingest import metrics
from schemas.envelope import Location
from schemas.topics import source_of, topic_of

_ENTRY: Final = struct.Struct(">16sIqq")
"""Fingerprint (its first 16 bytes), partition, offset, arrival in ms."""

KEY_BYTES: Final = 16
FLUSH_SECONDS: Final = 1.0

_SCHEMA: Final = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS entry (
        key BLOB NOT NULL, value BLOB NOT NULL, arrived_ms INTEGER NOT NULL, PRIMARY KEY (key, value)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS entry_arrived ON entry (arrived_ms);
    CREATE TABLE IF NOT EXISTS position (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
"""


class Seen(NamedTuple):
    """A record of the log, as the window needs it."""

    record_id: str
    fingerprint: bytes
    location: Location
    arrived_ms: int


class LogTail(Protocol):
    """The log, for reading back what the window missed."""

    def read_tail(self, positions: dict[tuple[str, int], int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        """Every record from `positions`, or where there is none from arrival `since_ms`, to the end as of now."""
        ...

    async def ends(self) -> dict[tuple[str, int], int]:
        """The log's end by topic and partition."""
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
        self._known_to: dict[tuple[str, int], int] = {}
        self._unsaved: list[tuple[bytes, bytes, int]] = []

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
                return Location(topic_of(source), partition, offset)
        return None

    def remember(self, key: bytes, fingerprint: bytes, location: Location, arrived_ms: int) -> bool:
        """Note a durable record. Returns whether the id was known with another content: a conflict."""
        value = _ENTRY.pack(fingerprint[:16], location.partition, location.offset, arrived_ms)
        self._unsaved.append((key, value, arrived_ms))
        return self._insert(key, value, arrived_ms)

    def _insert(self, key: bytes, value: bytes, arrived_ms: int) -> bool:
        known = self._entries.get(key, b"")
        if value[:16] in {known[i : i + 16] for i in range(0, len(known), _ENTRY.size)}:
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

    def advance(self, topic: str, partition: int, start: int, end: int) -> None:
        """Records [start, end) are all known. A gap before them (another writer) stays to be read at the next start."""
        known = self._known_to.get((topic, partition))
        if known is not None and start <= known < end:
            self._known_to[topic, partition] = end

    async def open(self, path: Path, log: LogTail, now_ms: int) -> "WindowStore":
        """Load what is on disk, then read the log's tail. Raises what the log raises when it is away."""
        started = time.monotonic()
        store = await asyncio.to_thread(WindowStore, path)
        since_ms = now_ms - self._window_ms
        loaded = await asyncio.to_thread(store.load, since_ms, self._max_ids)
        for key, value, arrived_ms in loaded.entries:
            self._insert(key, value, arrived_ms)
        ends = await log.ends()
        # A stored position past the end means that the topic was made anew: read all of it.
        positions = {at: offset for at, offset in loaded.positions.items() if offset <= ends.get(at, -1)}
        read = 0
        async for records in log.read_tail(positions, since_ms):
            for seen in records:
                source = source_of(seen.location.topic)
                key = key_of(source, seen.record_id)
                self.remember(key, seen.fingerprint, seen.location, seen.arrived_ms)
            read += len(records)
        self._known_to = ends
        await self.save(store, now_ms)
        metrics.window_caught_up(len(self), read, time.monotonic() - started)
        return store

    async def save(self, store: "WindowStore", now_ms: int) -> None:
        """Write behind: entries first noted before their positions are, in one transaction."""
        unsaved, self._unsaved = self._unsaved, []
        await asyncio.to_thread(store.save, unsaved, dict(self._known_to), now_ms - self._window_ms)


class Loaded(NamedTuple):
    entries: list[tuple[bytes, bytes, int]]
    positions: dict[tuple[str, int], int]


class WindowStore:
    """The window on disk. Losing its last second, or all of it, costs reading the log again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._connect(path)
        except sqlite3.DatabaseError:
            # Not a database any more: the log has everything that it held.
            for leftover in path.parent.glob(path.name + "*"):
                leftover.unlink()
            self._database = self._connect(path)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, check_same_thread=False)
        database.executescript(_SCHEMA)
        return database

    def load(self, since_ms: int, limit: int) -> Loaded:
        newest = self._database.execute(
            "SELECT key, value, arrived_ms FROM entry WHERE arrived_ms >= ? ORDER BY arrived_ms DESC LIMIT ?",
            (since_ms, limit),
        ).fetchall()
        newest.reverse()
        rows = self._database.execute("SELECT topic, partition, next_offset FROM position")
        return Loaded(newest, {(topic, partition): offset for topic, partition, offset in rows})

    def save(
        self, entries: Iterable[tuple[bytes, bytes, int]], positions: dict[tuple[str, int], int], since_ms: int
    ) -> None:
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO entry VALUES (?, ?, ?)", entries)
            self._database.executemany(
                "INSERT OR REPLACE INTO position VALUES (?, ?, ?)",
                [(topic, partition, offset) for (topic, partition), offset in positions.items()],
            )
            self._database.execute("DELETE FROM entry WHERE arrived_ms < ?", (since_ms,))

    def close(self) -> None:
        self._database.close()


async def save_periodically(window: DedupeWindow, store: WindowStore, now_ms: Callable[[], int]) -> None:
    """Runs until cancelled."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        window.expire(now_ms())
        await window.save(store, now_ms())
