"""Invariant 4: one claim to a content, until its outcome; the window is bounded, and the same for all processes."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from ingest.dedupe import window as dedupe
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.log_reading import Seen
from ingest.dedupe.store import Chunk, Partition
from ingest.dedupe.window import CLAIM_MS, HELD, IN_SPOOL, Claim, Content, DedupeWindow, content_of
from schemas.envelope import Location
from schemas.errors import Misconfigured

TOPIC = "webhooks.stripe"
WINDOW_MS = 10_000
OLD, NEW = UUID(int=1), UUID(int=2)


def content(number: int, fingerprint: bytes = b"f" * 32) -> Content:
    return content_of(TOPIC, f"evt_{number}", fingerprint)


def location(offset: int) -> Location:
    return Location(TOPIC, 3, offset)


def claimed(window: DedupeWindow, number: int, now_ms: int = 1000) -> Claim:
    found = window.claim(content(number), now_ms)
    assert isinstance(found, Claim)
    return found


@pytest.fixture
def window() -> DedupeWindow:
    return DedupeWindow(IdTable(1000), WINDOW_MS)


def test_a_copy_hears_where_its_first_is(window: DedupeWindow) -> None:
    claim = claimed(window, 1)
    assert window.claim(content(1), 1001) is HELD
    window.settle(claim, location(7))
    assert window.claim(content(1), 1002) == location(7)


def test_a_claim_that_came_to_nothing_is_the_next_copys(window: DedupeWindow) -> None:
    window.release(claimed(window, 1))
    assert isinstance(window.claim(content(1), 1001), Claim)


def test_an_entry_leaves_with_its_window(window: DedupeWindow) -> None:
    window.settle(claimed(window, 1), location(7))
    assert window.claim(content(1), 1000 + WINDOW_MS) == location(7)
    assert isinstance(window.claim(content(1), 1001 + WINDOW_MS), Claim)


def test_the_same_id_with_another_content_is_a_conflict_and_gets_a_claim_of_its_own(window: DedupeWindow) -> None:
    window.settle(claimed(window, 1), location(7))
    other = window.claim(content(1, b"g" * 32), 1001)
    assert isinstance(other, Claim)
    assert other.is_conflict
    window.settle(other, location(8))
    assert window.claim(content(1), 1002) == location(7)
    assert window.claim(content(1, b"g" * 32), 1002) == location(8)


def test_another_content_of_an_id_is_found_nowhere(window: DedupeWindow) -> None:
    """The drain asks: it would drop a spooled conflict for what is on the log."""
    window.settle(claimed(window, 1), location(7))
    assert window.find(content(1)) == location(7)
    assert window.find(content(1, b"g" * 32)) is None


def test_what_is_in_the_spool_is_durable_and_later_on_the_log(window: DedupeWindow) -> None:
    claim = claimed(window, 1)
    window.spooled(claim)
    assert window.claim(content(1), 1001) is IN_SPOOL
    assert window.find(content(1)) is None
    window.remember(content(1), location(9), 1000)
    assert window.claim(content(1), 1002) == location(9)


def test_the_oldest_leaves_first_and_no_more_than_the_bound_are_kept() -> None:
    window = DedupeWindow(IdTable(3), WINDOW_MS)
    for number in range(5):
        window.settle(claimed(window, number), location(number))
    found = [window.find(content(number)) for number in range(5)]
    assert found == [None, None, location(2), location(3), location(4)]


def test_a_full_table_finds_what_it_holds() -> None:
    window = DedupeWindow(IdTable(2000), WINDOW_MS)
    for number in range(7000):
        window.settle(claimed(window, number), location(number))
    assert [n for n in range(7000) if window.find(content(n)) != (location(n) if n >= 5000 else None)] == []


def test_a_claim_ends_with_its_process() -> None:
    """It died between its claim and the append: the next copy takes over, and nothing is eaten."""
    table = IdTable(1000, is_shared=True)
    window = DedupeWindow(table, WINDOW_MS)
    script = f"""
import os, signal, sys
from ingest.dedupe.window import DedupeWindow, content_of
from ingest.dedupe.id_table import IdTable
window = DedupeWindow(IdTable(1000, descriptor={table.descriptor}), {WINDOW_MS})
window.claim(content_of({TOPIC!r}, "evt_1", b"f" * 32), 1000)
print("claimed", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[table.descriptor or 0],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"claimed\n"
    assert window.claim(content(1), 1001) is HELD
    child.send_signal(signal.SIGKILL)
    child.wait()
    taken = window.claim(content(1), 1002)
    assert isinstance(taken, Claim)
    window.settle(taken, location(1))
    assert window.claim(content(1), 1003) == location(1)


class SteadyClock:
    """Stands for the module `time` in `dedupe`."""

    def __init__(self) -> None:
        self.ms = 5000

    def monotonic(self) -> float:
        return self.ms / 1000


@pytest.fixture
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> SteadyClock:
    clock = SteadyClock()
    monkeypatch.setattr(dedupe, "time", clock)
    return clock


def test_a_claim_of_a_living_process_that_lost_it_expires(window: DedupeWindow, steady_clock: SteadyClock) -> None:
    claimed(window, 1)
    steady_clock.ms += CLAIM_MS
    assert window.claim(content(1), 1001) is HELD
    steady_clock.ms += 1
    assert isinstance(window.claim(content(1), 1002), Claim)


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
def test_whoever_sets_the_time_of_day_ends_no_claim(window: DedupeWindow, jump_ms: int) -> None:
    claim = claimed(window, 1, 10_000_000)
    assert window.claim(content(1), 10_000_000 + jump_ms) is HELD
    window.settle(claim, location(7))
    assert window.claim(content(1), 10_000_000) == location(7)


class Tail:
    """A log of one partition, as far as the keeper reads it."""

    def __init__(self, start: int, seen: Sequence[Seen], topic_id: UUID | None = OLD) -> None:
        self._start = start
        self.seen = list(seen)
        self.topic_id = topic_id
        self.is_missing = False

    async def read_tail(self, positions: Mapping[Partition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        first = positions.get((TOPIC, 3), 0)
        self.read_from = first
        yield [one for one in self.seen if one.location.offset >= first]

    async def topic_ids(self, topics: Collection[str]) -> dict[str, UUID | None]:
        return {} if self.is_missing else dict.fromkeys(topics, self.topic_id)

    async def bounds(self) -> dict[Partition, tuple[int, int]]:
        return {} if self.is_missing else {(TOPIC, 3): (self._start, self._start + len(self.seen))}


def seen(number: int) -> Seen:
    return Seen(f"evt_{number}", b"f" * 32, location(number), 1000)


def keeper(folder: Path, tail: Tail) -> tuple[WindowKeeper, DedupeWindow, IdTable]:
    table = IdTable(1000)
    window = DedupeWindow(table, WINDOW_MS)

    @asynccontextmanager
    async def open_tail(_: Sequence[str]) -> AsyncIterator[Tail]:
        yield tail

    return WindowKeeper(table, window, folder, open_tail, tail.topic_ids), window, table


def test_a_claim_that_was_taken_over_is_not_its_first_owners_to_release(
    window: DedupeWindow, steady_clock: SteadyClock
) -> None:
    late = claimed(window, 1)
    steady_clock.ms += CLAIM_MS + 1
    taken = window.claim(content(1), 1001)
    assert isinstance(taken, Claim)
    window.settle(late, location(7))
    window.release(taken)
    assert window.claim(content(1), 1002) == location(7)


def test_a_table_of_another_size_is_refused() -> None:
    table = IdTable(1000, is_shared=True)
    with pytest.raises(Misconfigured, match="DEDUPE_MAX_IDS"):
        IdTable(500, descriptor=table.descriptor)


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


def test_a_name_that_is_renewed_has_another_number_in_every_process() -> None:
    table = IdTable(1000, is_shared=True)
    other = IdTable(1000, descriptor=table.descriptor)
    before = table.number_of(TOPIC)
    assert other.number_of(TOPIC) == before
    other.renew(TOPIC)
    assert table.number_of(TOPIC) == other.number_of(TOPIC) != before
    assert table.name_of(before) == other.name_of(table.number_of(TOPIC)) == TOPIC


def test_what_was_on_a_topic_that_was_made_anew_is_nowhere(window: DedupeWindow) -> None:
    window.settle(claimed(window, 1), location(7))
    under_way = claimed(window, 2)
    window.spooled(claimed(window, 3))
    window.forget(TOPIC)
    assert window.find(content(1)) is None
    again = claimed(window, 1)
    assert not again.is_conflict
    window.settle(again, location(0))
    assert window.claim(content(1), 1002) == location(0)
    # It may have been appended to the old one.
    window.settle(under_way, location(8))
    assert isinstance(window.claim(content(2), 1002), Claim)
    # That is not on any topic yet.
    assert window.claim(content(3), 1002) is IN_SPOOL


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
