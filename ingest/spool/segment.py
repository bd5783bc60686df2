"""A file of the spool: checksummed records behind a mark of its own. Must not decide what is kept.

The mark is in the file's name, in its head and before every record. After a wrong checksum, the reader searches the
rest of the file for the next whole record, reports the bytes between, and keeps the file.
"""

import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import orjson

from ingest import metrics
from ingest.dedupe.id_table import FINGERPRINT_BYTES, KEY_BYTES
from ingest.dedupe.window import Content, content_of
from ingest.log.record_batch import LogRecord, VerifiedRecord

_FILE_HEAD: Final = struct.Struct(">8s8s")
"""Magic, and the mark of this file's records: random, so that no body can hold what looks like one of them."""

_HEAD: Final = struct.Struct(">8sIII")
"""Mark, bytes of the directory, bytes of the body, CRC-32 of mark and both."""

_MAGIC: Final = b"RDSPOOL1"
_MARK_BYTES: Final = 8
_NAME: Final = re.compile(r"segment-(?P<number>[0-9]+)(?:-(?P<mark>[0-9a-f]{16}))?\.spool", re.ASCII)
"""Files of earlier releases have no mark in their names, nor have those that somebody puts back by hand."""

FILE_HEAD_BYTES: Final = _FILE_HEAD.size
_CONTENT: Final = struct.Struct(f"{KEY_BYTES}s{FINGERPRINT_BYTES}s")
_RECORD_BYTES: Final = 700
"""The size of a record beside its body."""


class SpooledRecord(NamedTuple):
    """A record and its fingerprint, by which the dedupe window knows it."""

    record: VerifiedRecord
    fingerprint: bytes

    @property
    def content(self) -> Content:
        return content_of(self.record.topic, self.record.key.decode(), self.fingerprint)

    @property
    def size(self) -> int:
        """Bytes on the disk, near enough."""
        return len(self.record.value) + _RECORD_BYTES

    def encode(self, mark: bytes) -> bytes:
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
        checksum = zlib.crc32(value, zlib.crc32(directory, zlib.crc32(mark)))
        return _HEAD.pack(mark, len(directory), len(value), checksum) + directory + value


class _Contents:
    """The contents of a segment, in 32 bytes each: a full spool has a million of them."""

    def __init__(self) -> None:
        self._by_topic: dict[str, bytearray] = {}

    def add(self, content: Content) -> None:
        self._by_topic.setdefault(content.topic, bytearray()).extend(content.key + content.fingerprint)

    def __iter__(self) -> Iterator[Content]:
        for topic, packed in self._by_topic.items():
            for key, fingerprint in _CONTENT.iter_unpack(packed):
                yield Content(topic, key, fingerprint)


class Segment:
    """A file of the spool, and how much of it there is."""

    def __init__(self, path: Path, mark: bytes = b"") -> None:
        self.path = path
        self.mark = mark
        self.records = 0
        self.bytes = 0
        self.contents = _Contents()
        self.refused: set[Content] = set()
        """Contents that the broker will never take: set aside."""
        self._is_reported = False
        self.has_unkept_damage = False
        """The disk did not take what is to be kept of it: it must stay."""

    def count(self, record: SpooledRecord) -> None:
        """It is in the file."""
        self.records += 1
        self.contents.add(record.content)

    def lose(self, left: Sequence[SpooledRecord]) -> list[Content]:
        """Only these can be read of it. Returns what else it was given."""
        found = {one.content for one in left}
        lost = [content for content in self.contents if content not in found]
        self.records, self.contents = 0, _Contents()
        for one in left:
            self.count(one)
        return lost

    def read(self, data: bytes | None = None) -> Iterator[SpooledRecord]:
        """Its records in the order of writing, out of its bytes if they have been read already. Damaged bytes between
        them are reported and skipped.
        """
        data = self.path.read_bytes() if data is None else data
        mark = mark_of(self.path, data)
        head = _FILE_HEAD.pack(_MAGIC, mark)
        # A head that lost bytes moved the records.
        at, damaged = (len(head) if data.startswith(head) else 0), 0
        while at < len(data):
            record, end = _decode(data, at, mark)
            if record is None:
                end = data.find(mark, at + 1)
                end = end if end >= 0 else len(data)
                damaged += end - at
            else:
                yield record
            at = end
        if damaged:
            try:
                self._keep_damaged(damaged)
            except OSError as error:
                self._is_reported = False
                self.has_unkept_damage = True
                metrics.spool_failed(error, 0)
            else:
                self.has_unkept_damage = False

    def _keep_damaged(self, damaged: int) -> None:
        if self._is_reported:
            return
        self._is_reported = True
        folder = self.path.parent / "damaged"
        folder.mkdir(exist_ok=True)
        # A process before this one may have kept it already.
        known = [one for one in folder.glob(f"{self.path.stem}-*") if one.samefile(self.path)]
        kept = known[0] if known else folder / f"{self.path.stem}-{time.time_ns()}{self.path.suffix}"
        if not known:
            try:
                kept.hardlink_to(self.path)
            except OSError:
                # Not every volume has links.
                shutil.copyfile(self.path, kept)
            sync_folder(folder)
        metrics.spool_damaged(str(kept), damaged)


def segment_name(number: int, mark: bytes) -> str:
    return f"segment-{number:08d}-{mark.hex()}.spool"


def number_of(path: Path) -> int | None:
    """Segments were written in the order of their numbers. None for what somebody else called otherwise."""
    name = _NAME.fullmatch(path.name)
    return int(name["number"]) if name else None


def segments_in(folder: Path) -> list[tuple[int, Path]]:
    """Number and file, in the order of writing."""
    named = ((number_of(path), path) for path in folder.glob("segment-*.spool"))
    return sorted((number, path) for number, path in named if number is not None)


def mark_of(path: Path, data: bytes) -> bytes:
    """The bytes before every record of a file. Only the name gives them reliably, whatever happened to the bytes."""
    name = _NAME.fullmatch(path.name)
    if name and name["mark"]:
        return bytes.fromhex(name["mark"])
    first = _FILE_HEAD.size
    in_head = data[first - _MARK_BYTES : first].ljust(_MARK_BYTES, b"\0")
    in_record = data[first : first + _MARK_BYTES]
    # No sender chooses the bytes in either place, and a record behind the right mark is whole.
    is_damaged = in_head != in_record and _decode(data, first, in_record)[0] is not None
    return in_record if is_damaged else in_head


def write_all(file: BinaryIO, data: bytes) -> None:
    """A disk that fills up writes a part, and says so only the next time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable: a power cut loses a file that the folder does not list."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decode(data: bytes, at: int, mark: bytes) -> tuple[SpooledRecord | None, int]:
    """The record at an offset and where the next begins; None where it is not whole."""
    if at + _HEAD.size > len(data):
        return None, at
    found, directory_bytes, body_bytes, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    end = start + directory_bytes + body_bytes
    if found != mark or end > len(data) or zlib.crc32(data[start:end], zlib.crc32(mark)) != checksum:
        return None, at
    try:
        directory = orjson.loads(data[start : start + directory_bytes])
        record = LogRecord(
            directory["topic"],
            directory["key"].encode(),
            data[start + directory_bytes : end],
            directory["timestamp_ms"],
            [(name, content.encode("latin-1")) for name, content in directory["headers"]],
        )
        # It was verified before it was written here.
        return SpooledRecord(VerifiedRecord(record), bytes.fromhex(directory["fingerprint"])), end
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, at


def write_segment(file: BinaryIO, mark: bytes, records: Sequence[SpooledRecord]) -> None:
    """A new file's head, and records. Raises OSError."""
    write_all(file, _FILE_HEAD.pack(_MAGIC, mark) + b"".join([record.encode(mark) for record in records]))


def new_mark() -> bytes:
    return os.urandom(_MARK_BYTES)
