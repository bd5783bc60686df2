"""Invariant 4 where Kafka came back with older data, under a living ingress: no copy of what the log lost is swallowed."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.log_reading import Seen
from ingest.dedupe.other_log import AckedEnds, Comparison, Places
from ingest.dedupe.store import Chunk
from ingest.dedupe.window import Claim, Content, DedupeWindow, content_of
from schemas.envelope import Location
from schemas.topics import TopicPartition

TOPIC, OTHER = "webhooks.stripe", "webhooks.twilio"
LOG = UUID(int=1)


def content(number: int, topic: str = TOPIC) -> Content:
    return content_of(topic, f"evt_{number}", b"f" * 32)


def location(offset: int, topic: str = TOPIC) -> Location:
    return Location(topic, 0, offset)


class Log:
    """One partition of each topic: the numbers of its records, in order."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = {TOPIC: list(numbers), OTHER: [0]}

    async def read_tail(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        for topic, numbers in self.numbers.items():
            first = positions.get((topic, 0), 0)
            yield [
                Seen(f"evt_{number}", b"f" * 32, location(offset, topic), 1000)
                for offset, number in enumerate(numbers)
                if offset >= first
            ]

    async def topic_ids(self, topics: Collection[str]) -> dict[str, UUID | None]:
        return dict.fromkeys(topics, LOG)

    async def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        return {(topic, 0): (0, len(numbers)) for topic, numbers in self.numbers.items()}


class Host:
    """Its table, with a process that appends and one that keeps the window."""

    def __init__(self, folder: Path, log: Log, table: IdTable | None = None) -> None:
        self.log = log
        self.table = table or IdTable(1000)
        self.window = DedupeWindow(self.table, 10_000)
        self.ends = AckedEnds(self.window)

        @asynccontextmanager
        async def open_tail(_: Sequence[str]) -> AsyncIterator[Log]:
            yield log

        self.keeper = WindowKeeper(self.table, self.window, folder, open_tail, log.topic_ids)

    async def open(self) -> None:
        await self.keeper.open([TOPIC, OTHER], 2000)

    def append(self, number: int) -> None:
        claim = self.window.claim(content(number), 1000)
        assert isinstance(claim, Claim)
        self.log.numbers[TOPIC].append(number)
        offset = len(self.log.numbers[TOPIC]) - 1
        self.ends.add(TOPIC, 0, offset, 1)
        self.window.settle(claim, location(offset))

    async def tick(self) -> Chunk:
        """What a second of the keeper's does."""
        chunk = await self.keeper.collect()
        await self.keeper.look(2000)
        await self.keeper.save(2000)
        return chunk

    def known(self, *numbers: int) -> list[int | None]:
        found = [self.window.find(content(number)) for number in numbers]
        return [one and one.offset for one in found]


async def test_an_offset_that_comes_again_voids_the_window_of_its_topic(tmp_path: Path) -> None:
    host = Host(tmp_path, Log())
    await host.open()
    for number in (1, 2, 3):
        host.append(number)
    await host.tick()
    assert host.known(1, 2, 3) == [0, 1, 2]
    # Restored, and as long as before soon after.
    del host.log.numbers[TOPIC][1:]
    host.append(4)
    assert host.known(1, 2, 3) == [None, None, None], "at once, in all processes"
    assert host.window.find(content(0, OTHER)) == location(0, OTHER)
    host.append(5)
    await host.tick()
    assert host.known(1, 2, 3, 4, 5) == [0, None, None, 1, 2]
    host.append(2)
    await host.tick()
    # Neither a new keeper nor a new host believes what was saved of the lost records.
    for table in (host.table, None):
        again = Host(tmp_path, host.log, table)
        await again.open()
        await again.tick()
        assert again.known(1, 2, 3, 4, 5) == [0, 3, None, 1, 2]


async def test_a_keeper_that_was_away_hears_of_it_from_the_table(tmp_path: Path) -> None:
    host = Host(tmp_path, Log())
    await host.open()
    for number in (1, 2):
        host.append(number)
    await host.tick()
    del host.log.numbers[TOPIC][1:]
    host.append(3)
    successor = Host(tmp_path, host.log, host.table)
    await successor.open()
    await successor.tick()
    assert successor.known(1, 2, 3) == [0, None, 1]


async def test_a_log_that_came_back_shorter_is_found_after_the_outage(tmp_path: Path) -> None:
    host = Host(tmp_path, Log())
    await host.open()
    for number in (1, 2):
        host.append(number)
    await host.tick()
    await host.keeper.compare()
    assert host.known(1, 2) == [0, 1]
    del host.log.numbers[TOPIC][1:]
    await host.keeper.compare()
    await host.tick()
    assert host.known(1, 2) == [0, None]


async def test_other_hosts_hear_of_it_after_what_they_heard_before(tmp_path: Path) -> None:
    log = Log()
    ours, theirs = Host(tmp_path / "a", log), Host(tmp_path / "b", log)
    await ours.open()
    await theirs.open()
    for number in (1, 2):
        ours.append(number)
    theirs.keeper.heard(await ours.tick())
    assert theirs.known(1, 2) == [0, 1]
    ours.append(4)
    late = await ours.tick()
    del log.numbers[TOPIC][1:]
    ours.append(3)
    for _ in range(2):
        heard = Chunk.decode((await ours.tick()).encode())
        assert heard is not None
        theirs.keeper.heard(heard)
    assert heard is not None
    assert heard.void == [TOPIC]
    assert theirs.known(2) == [None]
    # Word of the lost record was on its way.
    theirs.keeper.heard(late)
    assert (await theirs.tick()).void == (await theirs.tick()).void == [], "who heard it does not tell it again"
    assert theirs.known(1, 2, 3, 4) == [0, None, 1, None]


@pytest.mark.parametrize("lost", [[10, 11, 12], [12], [11, 12]])
async def test_entries_of_two_logs_in_one_store_are_found_at_the_start(tmp_path: Path, lost: list[int]) -> None:
    """An ingress that did not notice wrote the new log's entries behind those of the old one, and the newest is right."""
    before = Host(tmp_path, Log(*(n for n in (10, 11, 12) if n not in lost)))
    await before.open()
    for number in lost:
        before.append(number)
    await before.keeper.collect()
    await before.keeper.save(2000)
    del before.log.numbers[TOPIC][-len(lost) :]
    before.ends = AckedEnds(before.window)
    for number in (20, 21, 22, 23):
        before.append(number)
    await before.keeper.collect()
    await before.keeper.save(2000)
    after = Host(tmp_path, before.log)
    await after.open()
    assert after.known(*lost) == [None] * len(lost)
    assert after.known(20, 21, 22, 23) == [3 - len(lost) + n for n in range(4)]


def test_a_log_that_is_longer_than_what_is_saved_takes_no_memory() -> None:
    comparison = Comparison()
    comparison.saved(location(5), b"a" * 16)
    for offset in range(0, 1 << 20, 1 << 12):
        comparison.found(location(offset), b"b" * 16)
    assert not comparison.is_other_log
    assert len(comparison.places.pages) == 1


def test_one_record_has_one_place() -> None:
    places = Places()
    for offset in (0, 4095, 4096, 1 << 40):
        assert places.is_free_for(location(offset), b"a" * 16)
        places.put(location(offset), b"a" * 16)
        assert places.is_free_for(location(offset), b"a" * 16)
        assert places.is_free_for(location(offset, OTHER), b"b" * 16)
        assert not places.is_free_for(location(offset), b"b" * 16)
