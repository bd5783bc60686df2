"""The dedupe window on disk: what is torn costs reading the log."""

import struct
import zlib
from pathlib import Path

import pytest

from ingest.dedupe.store import Chunk, WindowStore, current_of

TOPIC = "webhooks.stripe"


def chunk(number: int, written_ms: int = 1000) -> Chunk:
    return Chunk({TOPIC: bytes([number]) * 52}, {(TOPIC, 0): number}, written_ms)


def load(folder: Path, since_ms: int = 0) -> list[Chunk]:
    store = WindowStore(folder)
    try:
        return list(store.load(since_ms))
    finally:
        store.close()


def written(folder: Path, count: int) -> Path:
    store = WindowStore(folder)
    for number in range(count):
        store.append(chunk(number), 0)
    store.close()
    return next(folder.glob("window-*.bin"))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written(tmp_path, 3)
    assert load(tmp_path) == [chunk(number) for number in range(3)]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_chunk_takes_its_positions_with_it(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    assert load(tmp_path) == [chunk(0), chunk(1)]
    store = WindowStore(tmp_path)
    list(store.load(0))
    store.append(chunk(7), 0)
    store.close()
    assert load(tmp_path) == [chunk(0), chunk(1), chunk(7)]


def test_a_garbled_chunk_hides_every_later_one(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert load(tmp_path) == [chunk(0)]


def test_old_entries_leave_and_the_positions_stay(tmp_path: Path) -> None:
    written(tmp_path, 2)
    assert load(tmp_path, since_ms=5000)[-1] == Chunk({}, {(TOPIC, 0): 1}, 1000)


def test_a_failed_write_leaves_the_next_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = WindowStore(tmp_path)
    store.append(chunk(0), 0)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("ingest.dedupe.store.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.append(chunk(1), 0)
    store.append(chunk(2), 0)
    store.close()
    assert load(tmp_path) == [chunk(0), chunk(2)]


@pytest.mark.parametrize("directory", [b"{]", b"[]", b"{}", b'{"entries":[["t",3]],"positions":[],"written_ms":null}'])
def test_a_checksum_is_no_signature(directory: bytes) -> None:
    head = struct.pack(">4sIII", b"RDW1", len(directory), 0, zlib.crc32(directory))
    assert Chunk.decode(head + directory) is None


def test_the_logs_are_read_back_and_earlier_versions_kept_none(tmp_path: Path) -> None:
    store = WindowStore(tmp_path)
    store.append(Chunk({}, {}, 1000, {TOPIC: "old"}), 0)
    store.close()
    assert load(tmp_path)[0].logs == {TOPIC: "old"}
    directory = b'{"entries":[],"positions":[],"written_ms":1000}'
    found = Chunk.decode(struct.pack(">4sIII", b"RDW1", len(directory), 0, zlib.crc32(directory)) + directory)
    assert found == Chunk({}, {}, 1000, {})


@pytest.mark.parametrize(
    ("saved", "now", "current"),
    [
        (["", ""], "new", [0, 1]),
        (["", "new"], "new", [0, 1]),
        (["", "old"], "new", []),
        (["old", "new"], "new", [1]),
        (["", "old", "new"], "new", [2]),
        (["old", "old"], "", [0, 1]),
    ],
)
def test_only_what_is_of_the_topic_that_is_there_is_current(saved: list[str], now: str, current: list[int]) -> None:
    """ "" is a log that nobody knew: an earlier version saved it, or the topic is missing."""
    chunks = [
        Chunk({TOPIC: bytes([number])}, {(TOPIC, 0): number}, 1000, {TOPIC: log} if log else {})
        for number, log in enumerate(saved)
    ]
    positions, entries = current_of(chunks, {TOPIC: now} if now else {})
    assert [blob[0] for _, blob in entries] == current
    assert positions == ({(TOPIC, 0): len(saved) - 1} if len(saved) - 1 in current else {})
