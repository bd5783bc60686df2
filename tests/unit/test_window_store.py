"""The dedupe window on disk: what is torn costs reading the log."""

import struct
import zlib
from pathlib import Path

import pytest

from ingest.dedupe.newest_entries import NewestEntries
from ingest.dedupe.store import ENTRY, Chunk, WindowStore, current_of

TOPIC, OTHER = "webhooks.stripe", "webhooks.twilio"
MAX_BYTES = 100 * ENTRY.size


def chunk(number: int, written_ms: int = 1000) -> Chunk:
    return Chunk({TOPIC: bytes([number]) * 52}, {(TOPIC, 0): number}, written_ms)


def load(folder: Path, since_ms: int = 0) -> list[Chunk]:
    store = WindowStore(folder, MAX_BYTES)
    try:
        return list(store.load(since_ms))
    finally:
        store.close()


def written(folder: Path, count: int) -> Path:
    store = WindowStore(folder, MAX_BYTES)
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
    store = WindowStore(tmp_path, MAX_BYTES)
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
    store = WindowStore(tmp_path, MAX_BYTES)
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
    store = WindowStore(tmp_path, MAX_BYTES)
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
    positions, entries = current_of(chunks, {TOPIC: now} if now else {}, MAX_BYTES)
    assert [number for _, blob in entries for number in blob] == current
    assert positions == ({(TOPIC, 0): len(saved) - 1} if len(saved) - 1 in current else {})


def entry(number: int) -> bytes:
    return number.to_bytes(4) * (ENTRY.size // 4)


@pytest.mark.parametrize("together", [1, 7, 300])
def test_the_newest_entries_stay_within_their_bytes(together: int) -> None:
    kept: NewestEntries[str] = NewestEntries(MAX_BYTES)
    numbers = list(range(300 * 7))
    for start in range(0, len(numbers), together):
        kept.add(TOPIC, b"".join(map(entry, numbers[start : start + together])))
        assert len(kept) <= MAX_BYTES
    assert dict(kept.items()) == {TOPIC: b"".join(map(entry, numbers[-100:]))}


def test_a_busy_topic_takes_the_place_of_old_entries_and_not_of_new_ones() -> None:
    """In pieces of 64 KiB: a topic with fewer bytes than that is as new as its last entry."""
    kept: NewestEntries[str] = NewestEntries(50_000 * ENTRY.size)
    kept.add("idle", entry(1))
    for number in range(100_000):
        kept.add(TOPIC, entry(number))
        if number % 10_000 == 0:
            kept.add(OTHER, entry(number))
    found = dict(kept.items())
    assert found[OTHER] == b"".join(map(entry, range(0, 100_000, 10_000)))
    assert set(found) == {TOPIC, OTHER}
    assert found[TOPIC].endswith(entry(99_999))
    assert sum(map(len, found.values())) == len(kept) == 50_000 * ENTRY.size
    kept.forget(TOPIC)
    assert len(kept) == len(found[OTHER])


def test_what_is_loaded_is_as_much_as_there_is_room_for() -> None:
    chunks = (Chunk({TOPIC: entry(n), OTHER: entry(n)}, {(TOPIC, 0): n}, 1000) for n in range(1000))
    positions, entries = current_of(chunks, {}, MAX_BYTES)
    assert sum([len(blob) for _, blob in entries]) == MAX_BYTES
    assert positions == {(TOPIC, 0): 999}


def test_what_was_void_does_not_come_back() -> None:
    chunks = [
        Chunk({TOPIC: entry(1), OTHER: entry(1)}, {}, 1000, {TOPIC: "log"}),
        Chunk({TOPIC: entry(2)}, {}, 1000, {TOPIC: "log"}, void=[TOPIC]),
        Chunk({TOPIC: entry(3)}, {}, 1000, {TOPIC: "log"}),
    ]
    _, entries = current_of(chunks, {TOPIC: "log"}, MAX_BYTES)
    assert dict(entries) == {OTHER: entry(1), TOPIC: entry(2) + entry(3)}


@pytest.mark.parametrize("is_restarted", [False, True])
def test_segments_leave_once_later_ones_hold_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_restarted: bool
) -> None:
    monkeypatch.setattr("ingest.dedupe.store.SEGMENT_BYTES", 10 * ENTRY.size)
    store = WindowStore(tmp_path, MAX_BYTES)
    for number in range(250):
        store.append(Chunk({TOPIC: entry(number)}, {(TOPIC, 0): number}, 1000), 0)
        if is_restarted and number == 120:
            store.close()
            store = WindowStore(tmp_path, MAX_BYTES)
            store.last()
    store.close()
    found = [chunk.entries[TOPIC] for chunk in load(tmp_path)]
    assert found[-100:] == [entry(number) for number in range(150, 250)]
    assert len(found) < 120
