"""The spool: deliveries on this machine's disk, fsynced, while the log can't take them. Must not append to the log.

Segments, written in groups: one `write` and one `fsync` for all that came while the last ones were under way. A segment
is dropped once all of it is on the log (`drain`); what a crash makes it offer again, the dedupe window knows.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, cast

from ingest import metrics
from ingest.outage_log import Story
from ingest.spool.segment import (
    FILE_HEAD_BYTES,
    Segment,
    SpooledRecord,
    new_mark,
    segment_name,
    segments_in,
    sync_folder,
    write_all,
    write_segment,
)
from ingest.spool.unreadable import adopt, adopt_unreadable, move_away
from schemas.errors import Misconfigured, Unavailable

SEGMENT_BYTES: Final = 8 * 1024 * 1024
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Not yet on the disk: a disk that hangs must not fill the memory."""

PROBE_SECONDS: Final = 1.0
_PROBE_BYTES: Final = 64 * 1024
"""A delivery of ordinary size."""

Done = Callable[[bool], None]


class Spool:
    """One process's folder of segments. `max_bytes` bounds what it holds; 0 turns it off."""

    def __init__(self, folder: Path, max_bytes: int, story: Story | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sealed: list[Segment] = []
        self._current: Segment | None = None
        self._file: BinaryIO | None = None
        self._number = 0
        self._lock: BinaryIO | None = None
        self._waiting: list[tuple[SpooledRecord, Done]] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        # Its own thread: a slow disk must not take those that others wait for.
        self._thread = ThreadPoolExecutor(1, "spool")
        self._probe: asyncio.Future[bool] | None = None
        self._probed = 0.0
        self._story = story or Story()
        self.has_records = asyncio.Event()
        self.topics: set[str] = set()
        """The topics of all spooled deliveries."""

    def open(self, abandoned: Iterable[Path] = ()) -> Iterator[SpooledRecord]:
        """Take the folder, and those of processes that are no more; read what they left. Raises `Misconfigured` where
        a living process has one of them.
        """
        if not self._max_bytes and not self._folder.exists():
            return
        self._lock = _lock(self._folder)
        adopt_unreadable(self._folder, self._folder)
        for folder in abandoned:
            try:
                with _lock(folder):
                    adopt_unreadable(folder, self._folder)
                    adopt(folder, self._folder)
            except OSError as error:
                metrics.spool_unreadable(str(folder), error)
        self._number = max([number for number, _ in segments_in(self._folder)], default=0)
        for _, path in segments_in(self._folder):
            yield from self._read_in(Segment(path))
        self._report()

    def _read_in(self, segment: Segment) -> Iterator[SpooledRecord]:
        try:
            data = segment.path.read_bytes()
        except OSError as error:
            move_away(segment.path, error)
            return
        segment.bytes = len(data)
        for record in segment.read(data):
            segment.count(record)
            self.topics.add(record.record.topic)
            yield record
        if segment.records or segment.has_unkept_damage:
            self._sealed.append(segment)
        else:
            # Nothing of it has to go to the log; what was damaged of it is kept.
            segment.path.unlink()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.bytes for segment in self._segments())

    @property
    def has_room(self) -> bool:
        """True if the spool's limit leaves room for a delivery of ordinary size."""
        return self.size + self._waiting_bytes + _PROBE_BYTES < self._max_bytes

    async def would_take(self) -> bool:
        """True if the next delivery would get onto the disk. Writes to it at most every `PROBE_SECONDS`."""
        loop = asyncio.get_running_loop()
        if self._probe is None or (self._probe.done() and loop.time() - self._probed > PROBE_SECONDS):
            self._probed = loop.time()
            self._probe = loop.run_in_executor(self._thread, self._try_disk)
        try:
            return self.has_room and await asyncio.wait_for(asyncio.shield(self._probe), PROBE_SECONDS)
        except TimeoutError:
            return False

    def _try_disk(self) -> bool:
        path = self._folder / "probe"
        try:
            with path.open("wb", buffering=0) as file:
                write_all(file, bytes(_PROBE_BYTES))
                os.fsync(file.fileno())
        except OSError:
            return False
        else:
            return True
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    def _segments(self) -> list[Segment]:
        return [*self._sealed, self._current] if self._current is not None else self._sealed

    def put(self, record: SpooledRecord, done: Done) -> None:
        """`done` hears once whether it is on the disk. Raises `Unavailable` where there is no room for it."""
        size = self._waiting_bytes + record.size
        if size > MAX_WAITING_BYTES or self.size + size > self._max_bytes:
            if self._max_bytes:
                metrics.SPOOL_FULL.inc()
            raise Unavailable("the spool is full")
        self.topics.add(record.record.topic)
        self._waiting.append((record, done))
        self._waiting_bytes = size
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_groups())

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                records = [record for record, _ in group]
                try:
                    await loop.run_in_executor(self._thread, self._append, records)
                except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                    is_kept = False
                    metrics.spool_failed(error, len(group))
                else:
                    is_kept = True
                self._waiting_bytes -= sum(record.size for record in records)
                self._report()
                for _, done in group:
                    _tell(done, is_kept)
        finally:
            self._writing = None

    def _append(self, records: Sequence[SpooledRecord]) -> None:
        """In the spool's thread. Raises what it meets, and then nothing of it is there."""
        if self._current is None or self._current.bytes > SEGMENT_BYTES:
            self._begin_segment()
        file, segment = cast(BinaryIO, self._file), cast(Segment, self._current)
        data = b"".join([record.encode(segment.mark) for record in records])
        try:
            write_all(file, data)
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(segment.path, segment.bytes)
            # Where that failed, what is torn ends this file, and no later record comes behind it.
            self._seal()
            raise
        segment.bytes += len(data)
        for record in records:
            segment.count(record)

    def _begin_segment(self) -> None:
        self._seal()
        mark = new_mark()
        path = self._folder / segment_name(self._number + 1, mark)
        file = path.open("xb", buffering=0)
        try:
            write_segment(file, mark, [])
        except OSError:
            # A disk that is full has room for names, and each attempt would leave one.
            file.close()
            path.unlink()
            raise
        self._number += 1
        self._file = file
        self._current = Segment(path, mark)
        self._current.bytes = FILE_HEAD_BYTES
        sync_folder(self._folder)

    def _seal(self) -> None:
        file, current = self._file, self._current
        self._file = self._current = None
        if current is not None:
            self._sealed.append(current)
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    async def sealed(self) -> list[Segment]:
        """The segments as they are now; what comes from here on goes into another."""
        # In the thread that writes, so never in the middle of a write.
        await asyncio.get_running_loop().run_in_executor(self._thread, self._seal)
        return list(self._sealed)

    def drop(self, segment: Segment) -> None:
        """All of it is on the log, or set aside."""
        self._sealed.remove(segment)
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            # The next start finds it, and all of it on the log.
            metrics.spool_failed(error, 0)
        self._story.drained(segment.records)
        self._report()

    def pass_over(self, segment: Segment, error: OSError) -> None:
        """It can't be read: out of the way of all others."""
        self._sealed.remove(segment)
        move_away(segment.path, error)
        self._report()

    def set_aside(self, spooled: SpooledRecord, reason: str) -> None:
        """Move a record that the broker will never take to a file of its own, for a person. Raises OSError."""
        folder = self._folder / "set-aside"
        folder.mkdir(exist_ok=True)
        topic, key, _, timestamp_ms, _ = spooled.record
        # The same content again is the same file.
        name = hashlib.sha256(b"\0".join([topic.encode(), key, spooled.fingerprint])).hexdigest()[:32]
        path = folder / f"{timestamp_ms}-{name}.spool"
        mark = new_mark()
        with path.open("wb", buffering=0) as file:
            write_segment(file, mark, [spooled])
            os.fsync(file.fileno())
        sync_folder(folder)
        metrics.spool_set_aside(str(path), reason)

    def _report(self) -> None:
        records = sum(segment.records for segment in self._segments())
        metrics.SPOOL_RECORDS.set(records)
        metrics.SPOOL_BYTES.set(self.size)
        self._story.spooled(records)
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
    sync_folder(folder.parent)
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Misconfigured(f"another process uses {folder}: set REDRIVE_DATA") from error
    return lock


def _tell(done: Done, is_kept: bool) -> None:
    try:
        done(is_kept)
    except Exception:  # noqa: BLE001 - one who fails must not keep the news from the others
        metrics.handler_failed(metrics.UNKNOWN)
