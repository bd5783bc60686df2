"""The dedupe window on disk: append-only segments of checksummed chunks. Losing any of it costs reading the log again.

Not a database on purpose: one `write` and one `fsync` a second, whatever the rate, and nothing of it holds up the loop.
A chunk carries the entries since the last one *and* the positions up to which the log is known, so that a chunk which
is torn or garbled takes its positions with it: what it held is then read back from the log.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from ingest.dedupe.newest_entries import NewestEntries
from ingest.dedupe.window import is_location
from schemas.topics import TopicPartition

_HEAD: Final = struct.Struct(">4sIII")
"""Magic, bytes of the directory, bytes of the entries, CRC-32 of both."""

_MAGIC: Final = b"RDW1"
ENTRY: Final = struct.Struct(">16s16sIqq")
"""Key, fingerprint, partition, offset, arrival in ms: as it is saved, and as other hosts hear of it."""

SEGMENT_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries by topic, concatenated; the offsets below which every record is known; when it was written. `logs` says
    of which log, by topic: Kafka's id of it. Not of all topics: earlier versions kept none.
    """

    entries: dict[str, bytes]
    positions: dict[TopicPartition, int]
    written_ms: int
    logs: dict[str, str] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)
    """Topics for which everything saved or sent before this chunk is void: the log lost its tail."""
    eras: dict[str, int] = field(default_factory=dict)
    """The eras of topics, in the memory of the host that wrote it."""

    def encode(self) -> bytes:
        directory = orjson.dumps(
            {
                "entries": [[topic, len(blob)] for topic, blob in self.entries.items()],
                "positions": [[topic, partition, offset] for (topic, partition), offset in self.positions.items()],
                "written_ms": self.written_ms,
                "logs": self.logs,
                "void": self.void,
                "eras": self.eras,
            }
        )
        blob = b"".join(self.entries.values())
        return _HEAD.pack(_MAGIC, len(directory), len(blob), zlib.crc32(directory + blob)) + directory + blob

    @staticmethod
    def decode(data: bytes) -> "Chunk | None":
        """None where it is not whole."""
        return _decode(data, 0)[0]


@dataclass(slots=True)
class _Held:
    """The time at which a segment's last chunk was written, and the bytes of entries in all its chunks."""

    newest_ms: int = 0
    entry_bytes: int = 0


class WindowStore:
    """The segments of one folder. Used from one thread at a time. `max_bytes` of the newest entries are enough."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file: BinaryIO | None = None
        self.max_bytes = max_bytes
        self._held: dict[Path, _Held] = {}

    def load(self, since_ms: int) -> Iterator[Chunk]:
        """Chunks in the order of writing, up to the first that is not whole; what follows it is thrown away."""
        paths = self._segments()
        self._held.clear()
        for index, path in enumerate(paths):
            data = path.read_bytes()
            at = 0
            while at < len(data):
                chunk, end = _decode(data, at)
                if chunk is None:
                    os.truncate(path, at)
                    for later in paths[index + 1 :]:
                        later.unlink()
                    return
                self._count(path, chunk)
                # An old chunk's entries have left the window; its positions may still be the last.
                yield chunk if chunk.written_ms >= since_ms else replace(chunk, entries={})
                at = end

    def current(
        self, since_ms: int, logs: Mapping[str, str]
    ) -> tuple[dict[TopicPartition, int], list[tuple[str, bytes]]]:
        """See `current_of`."""
        return current_of(self.load(since_ms), logs, self.max_bytes)

    def clear(self) -> None:
        """Forget all of it."""
        self.close()
        for path in self._segments():
            path.unlink()
        self._held.clear()

    def last(self) -> Chunk:
        """The last chunk; an empty one where there is none."""
        found = Chunk({}, {}, 0)
        for chunk in self.load(0):
            found = chunk
        return found

    def append(self, chunk: Chunk, since_ms: int) -> None:
        """Make a chunk durable, and drop segments that hold nothing of the window. Raises OSError."""
        if self._file is None or self._file.tell() > SEGMENT_BYTES:
            self._next_segment()
        file = self._opened
        start = file.tell()
        try:
            file.write(chunk.encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            # A torn chunk in the middle would hide every later one, so the next goes into a segment of its own.
            self._file = None
            with contextlib.suppress(OSError):
                os.truncate(file.name, start)
            with contextlib.suppress(OSError):
                file.close()
            raise
        path = Path(file.name)
        self._count(path, chunk)
        later_bytes = 0
        for old in sorted(self._held, reverse=True):
            held = self._held[old]
            if old != path and (held.newest_ms < since_ms or later_bytes >= self.max_bytes):
                old.unlink(missing_ok=True)
                del self._held[old]
            later_bytes += held.entry_bytes

    def _count(self, path: Path, chunk: Chunk) -> None:
        held = self._held.setdefault(path, _Held())
        held.newest_ms = chunk.written_ms
        held.entry_bytes += sum([len(blob) for blob in chunk.entries.values()])

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("no segment is open")
        return self._file

    def _next_segment(self) -> None:
        self.close()
        segments = self._segments()
        number = int(segments[-1].stem.rpartition("-")[2]) + 1 if segments else 1
        self._file = (self._folder / f"window-{number:08d}.bin").open("ab")

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("window-*.bin"))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_readable(blob: bytes) -> bool:
    """True if these are entries."""
    return len(blob) % ENTRY.size == 0 and all(
        is_location(partition, offset) for _, _, partition, offset, _ in ENTRY.iter_unpack(blob)
    )


def current_of(
    chunks: Iterable[Chunk], logs: Mapping[str, str], max_bytes: int
) -> tuple[dict[TopicPartition, int], list[tuple[str, bytes]]]:
    """The content of chunks for the topics of these ids: the last positions, and by topic the newest entries,
    `max_bytes` of them. One chunk is in memory at a time: a busy week has half a million.

    Entries saved without an id belong to the present topic, unless another id was saved since.
    """
    known: dict[str, set[str]] = {}
    saved: NewestEntries[tuple[str, str | None]] = NewestEntries(max_bytes)
    last = Chunk({}, {}, 0)
    for last in chunks:
        for topic, log in last.logs.items():
            known.setdefault(topic, set()).add(log)
        for name in [name for name in saved.names() if name[0] in last.void]:
            saved.forget(name)
        for topic, blob in last.entries.items():
            saved.add((topic, last.logs.get(topic)), blob)

    def is_current(topic: str, own: str | None) -> bool:
        log = logs.get(topic)
        return log is None or (own == log if own else known.get(topic, set()) <= {log})

    positions = {at: offset for at, offset in last.positions.items() if is_current(at[0], last.logs.get(at[0]))}
    return positions, [(name[0], blob) for name, blob in saved.items() if is_current(*name)]


def _decode(data: bytes, at: int) -> tuple[Chunk | None, int]:
    """The chunk at an offset and where the next begins; None where it is not whole."""
    if at + _HEAD.size > len(data):
        return None, at
    magic, directory_bytes, blob_bytes, checksum = _HEAD.unpack_from(data, at)
    body = at + _HEAD.size
    end = body + directory_bytes + blob_bytes
    if magic != _MAGIC or end > len(data) or zlib.crc32(data[body:end]) != checksum:
        return None, at
    entries: dict[str, bytes] = {}
    start = body + directory_bytes
    try:
        directory = orjson.loads(data[body:start])
        for topic, length in directory["entries"]:
            entries[topic] = data[start : start + length]
            start += length
        positions = {(topic, partition): offset for topic, partition, offset in directory["positions"]}
        logs = {str(topic): str(log) for topic, log in dict(directory.get("logs", {})).items()}
        void = [str(topic) for topic in directory.get("void", [])]
        eras = {str(topic): int(era) for topic, era in dict(directory.get("eras", {})).items()}
        return Chunk(entries, positions, int(directory["written_ms"]), logs, void, eras), end
    except (ValueError, KeyError, TypeError):
        # Whole, but not ours: a checksum is not a signature.
        return None, at
