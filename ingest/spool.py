"""The spool: deliveries on this machine's disk, fsynced, while the log can't take them. Must not append to the log.

Segments of checksummed records, written in groups: one `write` and one `fsync` for all that came while the last ones
were under way. A segment is dropped once all of it is on the log (`drain`); what a crash makes it offer again, the
dedupe window knows. Where a checksum fails, the rest of the file is searched for the next whole record, what lies
between is reported, and the file is kept.
"""

import asyncio
import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import orjson

from ingest import metrics
from ingest.dedupe import Content, content_of
from ingest.record_batch import LogRecord, VerifiedRecord
from schemas.errors import Misconfigured, Unavailable

_HEAD: Final = struct.Struct(">4sIII")
"""Magic, bytes of the directory, bytes of the body, CRC-32 of both."""

_MAGIC: Final = b"RDS1"
_SEGMENTS: Final = "segment-*.spool"
SEGMENT_BYTES: Final = 8 * 1024 * 1024
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Not yet on the disk: a disk that hangs must not fill the memory."""

Done = Callable[[bool], None]


class SpooledRecord(NamedTuple):
    """A record and its fingerprint, by which the dedupe window knows it."""

    record: VerifiedRecord
    fingerprint: bytes

    @property
    def content(self) -> Content:
        return content_of(self.record.topic, self.record.key.decode(), self.fingerprint)

    def encode(self) -> bytes:
        topic, key, value, timestamp_ms, headers = self.record
        directory = orjson.dumps(
            {
                "topic": topic,
                "key": key.decode(),
                "timestamp_ms": timestamp_ms,
                "fingerprint": self.fingerprint.hex(),
                "headers": [(name, content.decode("latin-1")) for name, content in headers],
            }
        )
        checksum = zlib.crc32(value, zlib.crc32(directory))
        return _HEAD.pack(_MAGIC, len(directory), len(value), checksum) + directory + value


class Segment:
    """A file of the spool, and how much of it there is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        self.bytes = 0

    def read(self) -> Iterator[SpooledRecord]:
        """Its records in the order of writing. What is damaged between them is reported, and passed over."""
        data = self.path.read_bytes()
        at = 0
        damaged = 0
        while at < len(data):
            record, end = _decode(data, at)
            if record is None:
                end = data.find(_MAGIC, at + 1)
                end = end if end >= 0 else len(data)
                damaged += end - at
            else:
                yield record
            at = end
        if damaged:
            self._keep_damaged(damaged)

    def _keep_damaged(self, damaged: int) -> None:
        kept = self.path.parent / "damaged" / self.path.name
        kept.parent.mkdir(exist_ok=True)
        if not kept.exists():
            kept.hardlink_to(self.path)
            metrics.spool_damaged(str(kept), damaged)


class Spool:
    """One process's folder of segments. `max_bytes` bounds what it holds; 0 turns it off."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sealed: list[Segment] = []
        self._current: Segment | None = None
        self._file: BinaryIO | None = None
        self._number = 0
        self._lock: BinaryIO | None = None
        self._waiting: list[tuple[bytes, Done]] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        # Its own thread: a slow disk must not take those that others wait for.
        self._thread = ThreadPoolExecutor(1, "spool")
        self.has_records = asyncio.Event()
        self.topics: set[str] = set()
        """Of all that is there."""

    def open(self, abandoned: Iterable[Path] = ()) -> Iterator[SpooledRecord]:
        """Take the folder, and those of processes that are no more; read what they left. Raises `Misconfigured` where
        a living process has one of them.
        """
        if not self._max_bytes and not self._folder.exists():
            return
        self._lock = _lock(self._folder)
        known = [int(path.stem.rpartition("-")[2]) for path in self._folder.glob(_SEGMENTS)]
        self._number = max(known, default=0)
        for folder in abandoned:
            with _lock(folder):
                for path in sorted(folder.glob(_SEGMENTS)):
                    self._number += 1
                    path.rename(self._path(self._number))
        for path in sorted(self._folder.glob(_SEGMENTS)):
            segment = Segment(path)
            segment.bytes = path.stat().st_size
            for record in segment.read():
                segment.records += 1
                self.topics.add(record.record.topic)
                yield record
            self._sealed.append(segment)
        self._report()

    def _path(self, number: int) -> Path:
        return self._folder / f"segment-{number:08d}.spool"

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.bytes for segment in self._segments())

    @property
    def has_room(self) -> bool:
        """Whether it would take a delivery of ordinary size."""
        return self.size + self._waiting_bytes + 64 * 1024 < self._max_bytes

    def _segments(self) -> list[Segment]:
        return [*self._sealed, self._current] if self._current is not None else self._sealed

    def put(self, record: SpooledRecord, done: Done) -> None:
        """`done` hears once whether it is on the disk. Raises `Unavailable` where there is no room for it."""
        data = record.encode()
        size = self._waiting_bytes + len(data)
        if size > MAX_WAITING_BYTES or self.size + size > self._max_bytes:
            if self._max_bytes:
                metrics.SPOOL_FULL.inc()
            raise Unavailable("the spool is full")
        self.topics.add(record.record.topic)
        self._waiting.append((data, done))
        self._waiting_bytes = size
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_groups())

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            data = b"".join([one for one, _ in group])
            try:
                await loop.run_in_executor(self._thread, self._append, data, len(group))
            except OSError as error:
                is_kept = False
                metrics.spool_failed(error, len(group))
            else:
                is_kept = True
            self._waiting_bytes -= len(data)
            self._report()
            for _, done in group:
                done(is_kept)
        self._writing = None

    def _append(self, data: bytes, records: int) -> None:
        """In the spool's thread. Raises OSError, and then nothing of it is there."""
        if self._current is None or self._current.bytes > SEGMENT_BYTES:
            self._begin_segment()
        file, segment = cast(BinaryIO, self._file), cast(Segment, self._current)
        try:
            _write_all(file, data)
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(segment.path, segment.bytes)
            # Where that failed, what is torn ends this file, and no later record comes behind it.
            self._seal()
            raise
        segment.bytes += len(data)
        segment.records += records

    def _begin_segment(self) -> None:
        self._seal()
        self._number += 1
        path = self._path(self._number)
        self._file = path.open("xb", buffering=0)
        self._current = Segment(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _seal(self) -> None:
        if self._file is not None and self._current is not None:
            self._file.close()
            self._sealed.append(self._current)
        self._file = self._current = None

    async def sealed(self) -> list[Segment]:
        """The segments as they are now; what comes from here on goes into another."""
        # In the thread that writes, so never in the middle of a write.
        await asyncio.get_running_loop().run_in_executor(self._thread, self._seal)
        return list(self._sealed)

    def drop(self, segment: Segment) -> None:
        """All of it is on the log, or set aside."""
        self._sealed.remove(segment)
        segment.path.unlink()
        self._report()

    def set_aside(self, record: SpooledRecord, reason: str) -> None:
        """What the broker will never take waits for a person, in a file of its own. Raises OSError."""
        folder = self._folder / "set-aside"
        folder.mkdir(exist_ok=True)
        path = folder / f"{record.record.timestamp_ms}-{zlib.crc32(record.record.key):08x}.spool"
        with path.open("wb", buffering=0) as file:
            _write_all(file, record.encode())
            os.fsync(file.fileno())
        metrics.spool_set_aside(str(path), reason)

    def _report(self) -> None:
        records = sum(segment.records for segment in self._segments())
        metrics.SPOOL_RECORDS.set(records)
        metrics.SPOOL_BYTES.set(self.size)
        if records:
            self.has_records.set()
        else:
            self.has_records.clear()
            # A group that is being written counts nowhere yet, and its topics must not be forgotten.
            if self._writing is None:
                self.topics.clear()

    async def stop(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            await self._writing
        self._thread.shutdown()
        self._seal()
        if self._lock is not None:
            self._lock.close()


def _lock(folder: Path) -> BinaryIO:
    """The kernel frees it with its process. Raises `Misconfigured` where a living one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Misconfigured(f"another process uses {folder}: set REDRIVE_DATA") from error
    return lock


def _write_all(file: BinaryIO, data: bytes) -> None:
    """A disk that fills up writes a part, and says so only the next time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _decode(data: bytes, at: int) -> tuple[SpooledRecord | None, int]:
    """The record at an offset and where the next begins; None where it is not whole."""
    if at + _HEAD.size > len(data):
        return None, at
    magic, directory_bytes, body_bytes, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    end = start + directory_bytes + body_bytes
    if magic != _MAGIC or end > len(data) or zlib.crc32(data[start:end]) != checksum:
        return None, at
    directory = orjson.loads(data[start : start + directory_bytes])
    headers = [(name, content.encode("latin-1")) for name, content in directory["headers"]]
    record = LogRecord(
        directory["topic"],
        directory["key"].encode(),
        data[start + directory_bytes : end],
        directory["timestamp_ms"],
        headers,
    )
    # It was verified before it was written here.
    return SpooledRecord(VerifiedRecord(record), bytes.fromhex(directory["fingerprint"])), end
