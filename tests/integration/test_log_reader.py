"""The log, read: every offset of every range once and in order, and no more partitions ahead than memory is meant for."""

import secrets

import pytest

from deploy.topics import Topics
from replay.log.reader import SIDE_BY_SIDE, LogReader
from replay.selection.selection import Range
from schemas.topics import LOG_CONFIG
from tests.conftest import Stack
from tests.support.records import FakeRecord, produce

PARTITIONS = 2 * SIDE_BY_SIDE + 2
Batch = tuple[Range, list[int]]


@pytest.fixture(scope="module")
async def long_topic(stack: Stack) -> str:
    """Each partition holds one record more than the one before; the first holds one."""
    name = f"webhooks.wide{secrets.token_hex(3)}"
    async with Topics(stack.cluster) as topics:
        await topics.create({name: LOG_CONFIG}, partitions=PARTITIONS, replication=1)
    await produce(
        stack.servers,
        [
            FakeRecord(name, p, n, 1_760_000_000_000 + n, None, b"%d" % n)
            for p in range(PARTITIONS)
            for n in range(p + 1)
        ],
    )
    return name


async def read(stack: Stack, ranges: list[Range]) -> list[Batch]:
    async with LogReader(stack.cluster) as reader:
        return [(part, [record.offset for record in records]) async for part, records in reader.read(ranges)]


async def test_every_offset_comes_once_and_the_parts_of_a_partition_without_a_break(
    stack: Stack, long_topic: str
) -> None:
    found = await read(stack, [Range(long_topic, p, 0, p + 1) for p in range(PARTITIONS)])
    for partition in range(PARTITIONS):
        parts = [(part, offsets) for part, offsets in found if part.partition == partition]
        assert [offset for _, offsets in parts for offset in offsets] == list(range(partition + 1))
        assert [part.start for part, _ in parts] == [0, *[part.end for part, _ in parts[:-1]]]
        assert parts[-1][0].end == partition + 1


async def test_a_few_partitions_are_read_side_by_side_and_the_longest_first(stack: Stack, long_topic: str) -> None:
    found = await read(stack, [Range(long_topic, p, 0, p + 1) for p in range(PARTITIONS)])
    at = list(dict.fromkeys(part.partition for part, _ in found))
    groups = [set(at[first : first + SIDE_BY_SIDE]) for first in range(0, PARTITIONS, SIDE_BY_SIDE)]
    longest_first = list(reversed(range(PARTITIONS)))
    assert groups == [set(longest_first[n : n + SIDE_BY_SIDE]) for n in range(0, PARTITIONS, SIDE_BY_SIDE)]


async def test_several_ranges_of_a_partition_come_one_after_the_other(stack: Stack, long_topic: str) -> None:
    last, other = PARTITIONS - 1, PARTITIONS - 2
    wanted = [Range(long_topic, last, 9, 11), Range(long_topic, other, 3, 4), Range(long_topic, last, 1, 4)]
    found = await read(stack, wanted)
    offsets = {p: [o for part, some in found for o in some if part.partition == p] for p in (last, other)}
    assert offsets == {last: [1, 2, 3, 9, 10], other: [3]}


async def test_a_reader_that_nobody_reads_from_is_closed_like_any_other(stack: Stack) -> None:
    """Who asked for something that is wrong hears of it, and is not cancelled."""
    with pytest.raises(ValueError, match="wrong"):
        async with LogReader(stack.cluster):
            raise ValueError("wrong")
