"""The dedupe window over restarts, hosts and topics that are made again."""

import struct
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.log_reading import Seen
from ingest.dedupe.store import Chunk
from ingest.dedupe.window import DedupeWindow
from schemas.topics import TopicPartition
from tests.support.windows import TOPIC, WINDOW_MS, claimed, content, location

OLD, NEW = UUID(int=1), UUID(int=2)


class Tail:
    """A log of one partition, as far as the keeper reads it."""

    def __init__(self, start: int, seen: Sequence[Seen], topic_id: UUID | None = OLD) -> None:
        self._start = start
        self.seen = list(seen)
        self.topic_id = topic_id
        self.is_missing = False

    async def read_tail(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        first = positions.get((TOPIC, 3), 0)
        self.read_from = first
        yield [one for one in self.seen if one.location.offset >= first]

    async def topic_ids(self, topics: Collection[str]) -> dict[str, UUID | None]:
        return {} if self.is_missing else dict.fromkeys(topics, self.topic_id)

    async def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        return {} if self.is_missing else {(TOPIC, 3): (self._start, self._start + len(self.seen))}


def seen(number: int) -> Seen:
    return Seen(f"evt_{number}", b"f" * 32, location(number), 1000)


def full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def keeper(folder: Path, tail: Tail) -> tuple[WindowKeeper, DedupeWindow, IdTable]:
    table = IdTable(1000)
    window = DedupeWindow(table, WINDOW_MS)

    @asynccontextmanager
    async def open_tail(_: Sequence[str]) -> AsyncIterator[Tail]:
        yield tail

    return WindowKeeper(table, window, folder, open_tail, tail.topic_ids), window, table


async def test_a_restart_reads_only_what_it_does_not_know(tmp_path: Path) -> None:
    tail = Tail(0, [seen(0), seen(1)])
    first, window, _ = keeper(tmp_path, tail)
    await first.open([TOPIC], 2000)
    window.settle(claimed(window, 2), location(2))
    tail.seen.append(seen(2))
    await first.collect()
    await first.save(2000)
    again, window, table = keeper(tmp_path, tail)
    await again.open([TOPIC], 2000)
    assert table.is_complete
    assert tail.read_from == 2, "the last one that is known is looked at again"
    assert [window.find(content(number)) for number in range(3)] == [location(number) for number in range(3)]


async def test_what_nobody_here_appended_is_read_again_at_the_next_start(tmp_path: Path) -> None:
    """A gap: offset 1 is another host's, or an append in doubt. What lies beyond it is known, and read all the same."""
    tail = Tail(0, [seen(0)])
    first, window, _ = keeper(tmp_path, tail)
    await first.open([TOPIC], 2000)
    window.settle(claimed(window, 2), location(2))
    tail.seen += [seen(1), seen(2)]
    await first.collect()
    await first.save(2000)
    again, window, _ = keeper(tmp_path, tail)
    await again.open([TOPIC], 2000)
    assert tail.read_from == 1
    assert window.find(content(1)) == location(1)


async def test_what_the_log_has_lost_may_come_again(tmp_path: Path) -> None:
    first, _, _ = keeper(tmp_path, Tail(0, [seen(0), seen(1)]))
    await first.open([TOPIC], 2000)
    again, window, _ = keeper(tmp_path, Tail(1, [seen(1)]))
    await again.open([TOPIC], 2000)
    assert [window.find(content(number)) for number in range(2)] == [None, location(1)]


async def test_an_idle_window_writes_nothing(tmp_path: Path) -> None:
    kept, window, _ = keeper(tmp_path, Tail(0, []))
    await kept.open([TOPIC], 1000)
    window.settle(claimed(window, 1), location(0))
    await kept.collect()
    await kept.save(2000)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    for now_ms in range(3000, 9000, 1000):
        await kept.collect()
        await kept.save(now_ms)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == size


async def test_hosts_hear_of_what_others_appended_and_of_nothing_twice(tmp_path: Path) -> None:
    ours, window, _ = keeper(tmp_path / "a", Tail(0, []))
    theirs, other, _ = keeper(tmp_path / "b", Tail(0, []))
    await ours.open([TOPIC], 1000)
    await theirs.open([TOPIC], 1000)
    window.settle(claimed(window, 1), location(0))
    theirs.heard(await ours.collect())
    assert other.find(content(1)) == location(0)
    assert (await theirs.collect()).entries == {}


@pytest.mark.parametrize(
    "blobs",
    [
        {TOPIC: b"no entries"},
        {TOPIC: struct.pack(">16s16sIqq", b"k" * 16, b"f" * 16, 2**31, 7, 1000)},
        {TOPIC: struct.pack(">16s16sIqq", b"k" * 16, b"f" * 16, 0, -7, 1000)},
        {f"webhooks.{'x' * 200}": struct.pack(">16s16sIqq", b"k" * 16, b"f" * 16, 0, 7, 1000)},
    ],
)
async def test_what_no_host_can_have_appended_is_passed_over(tmp_path: Path, blobs: dict[str, bytes]) -> None:
    kept, window, table = keeper(tmp_path, Tail(0, []))
    await kept.open([TOPIC], 1000)
    kept.heard(Chunk(blobs, {}, 0))
    assert table.count == 0
    entry = content(1)
    kept.heard(Chunk({TOPIC: struct.pack(">16s16sIqq", entry.key, entry.fingerprint, 3, 7, 1000)}, {}, 0))
    assert window.find(entry) == location(7)


async def test_while_the_disk_is_full_no_more_waits_for_it_than_the_table_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = Tail(0, [])
    first, _, _ = keeper(tmp_path, tail)
    await first.open([TOPIC], 1000)
    numbers = range(3000)
    with monkeypatch.context() as patched:
        patched.setattr("ingest.dedupe.store.os.fsync", full_disk)
        for start in numbers[::100]:
            each = [(content(number), number) for number in range(start, start + 100)]
            packed = [struct.pack(">16s16sIqq", one.key, one.fingerprint, 3, number, 1000) for one, number in each]
            first.heard(Chunk({TOPIC: b"".join(packed)}, {}, 0))
            await first.save(2000)
    assert len(first._unsaved) == 1000 * len(packed[0])
    await first.save(2000)
    tail.seen += map(seen, numbers)
    second, window, _ = keeper(tmp_path, tail)
    await second.open([TOPIC], 2000)
    assert tail.read_from >= 2999, "the disk has the newest"
    assert [window.find(content(number)) for number in numbers[-1000:]] == [*map(location, numbers[-1000:])]


def test_a_name_that_is_renewed_has_another_number_in_every_process() -> None:
    table = IdTable(1000, is_shared=True)
    other = IdTable(1000, descriptor=table.descriptor)
    before = table.number_of(TOPIC)
    assert other.number_of(TOPIC) == before
    other.renew(TOPIC)
    assert table.number_of(TOPIC) == other.number_of(TOPIC) != before
    assert table.name_of(before) == other.name_of(table.number_of(TOPIC)) == TOPIC


async def test_a_running_window_forgets_a_topic_that_is_made_anew(tmp_path: Path) -> None:
    tail = Tail(0, [seen(0), seen(1)])
    kept, window, _ = keeper(tmp_path, tail)
    await kept.open([TOPIC], 2000)
    await kept.look(2000)
    assert window.find(content(1)) == location(1)
    # As long as the old one was, and other records.
    tail.seen, tail.topic_id = [seen(10)._replace(location=location(0)), seen(11)._replace(location=location(1))], NEW
    await kept.look(2000)
    assert [window.find(content(number)) for number in (0, 1, 10, 11)] == [None, None, location(0), location(1)]
    window.settle(claimed(window, 1), location(2))
    await kept.collect()
    await kept.save(2000)
    again, window, _ = keeper(tmp_path, tail)
    tail.seen.append(seen(1)._replace(location=location(2)))
    await again.open([TOPIC], 2000)
    assert tail.read_from == 2, "the last one that is known is looked at again"
    assert [window.find(content(number)) for number in (0, 1, 10)] == [None, location(2), location(0)]


async def test_a_topic_that_was_made_anew_meanwhile_is_read_from_its_start(tmp_path: Path) -> None:
    """It has as many records as the old one, so that all of the old locations are on it."""
    first, _, _ = keeper(tmp_path, Tail(0, [seen(0), seen(1)]))
    await first.open([TOPIC], 2000)
    tail = Tail(0, [seen(10)._replace(location=location(0)), seen(11)._replace(location=location(1))], NEW)
    again, window, _ = keeper(tmp_path, tail)
    await again.open([TOPIC], 2000)
    assert tail.read_from == 0
    assert [window.find(content(number)) for number in (0, 1, 10)] == [None, None, location(0)]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
async def test_a_log_that_was_restored_to_an_older_state_is_read_whole(tmp_path: Path, length: int) -> None:
    """Kafka's id of the topic is the same, and the log may have grown past what was known of the old one."""
    first, _, _ = keeper(tmp_path, Tail(0, [seen(0), seen(1), seen(2)]))
    await first.open([TOPIC], 2000)
    tail = Tail(0, [seen(0), *(seen(10 + n)._replace(location=location(n)) for n in range(1, length))])
    again, window, _ = keeper(tmp_path, tail)
    await again.open([TOPIC], 2000)
    expected = [location(0), None, None, *(location(n) for n in range(1, length))]
    assert [window.find(content(n)) for n in (0, 1, 2, *(10 + n for n in range(1, length)))] == expected
    # What is saved now is of this log alone.
    last, window, _ = keeper(tmp_path, tail)
    await last.open([TOPIC], 2000)
    assert tail.read_from == length - 1
    assert window.find(content(1)) is None


async def test_a_topic_that_was_missing_is_read_once_it_is_there(tmp_path: Path) -> None:
    tail = Tail(0, [], None)
    kept, window, _ = keeper(tmp_path, tail)
    tail.is_missing = True
    await kept.open([TOPIC], 2000)
    tail.is_missing = False
    tail.seen, tail.topic_id = [seen(0)], NEW
    await kept.look(2000)
    assert window.find(content(0)) == location(0)


@pytest.mark.parametrize(("theirs", "is_heard"), [({TOPIC: str(OLD)}, True), ({TOPIC: str(NEW)}, False), ({}, True)])
async def test_only_what_is_on_the_same_log_is_heard(tmp_path: Path, theirs: dict[str, str], is_heard: bool) -> None:
    kept, window, _ = keeper(tmp_path, Tail(0, []))
    await kept.open([TOPIC], 1000)
    entry = content(1)
    kept.heard(Chunk({TOPIC: struct.pack(">16s16sIqq", entry.key, entry.fingerprint, 3, 7, 1000)}, {}, 0, theirs))
    assert window.find(entry) == (location(7) if is_heard else None)
