"""Sets of offsets as ranges: what they do is what sets of numbers do."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from replay.selection.offsets import Offsets, common, count, decode, encode, merged, split
from replay.selection.selection import Range

PLACES = (("a", 0), ("a", 1), ("b:c", 0))


def part(place: tuple[str, int], start: int, length: int) -> Range:
    return Range(*place, start, start + length)


parts = st.builds(part, st.sampled_from(PLACES), st.integers(0, 40), st.integers(0, 10))
sets = st.lists(parts, max_size=8)


def numbers(ranges: list[Range]) -> set[tuple[str, int, int]]:
    return {(r.topic, r.partition, offset) for r in ranges for offset in range(r.start, r.end)}


@given(sets, sets)
def test_they_behave_as_sets_of_offsets(left: list[Range], right: list[Range]) -> None:
    one, other = merged(left), merged(right)
    assert numbers(one) == numbers(left)
    assert count(one) == len(numbers(left)), "without overlaps"
    assert numbers(merged([*one, *other])) == numbers(left) | numbers(right)
    assert numbers(common(one, other)) == numbers(left) & numbers(right)
    assert decode(encode(one)) == one
    offsets = Offsets(left)
    assert {(*place, n) for place in PLACES for n in range(-1, 60) if offsets.holds(*place, n)} == numbers(left)


@given(sets, st.integers(0, 9))
def test_what_lies_close_is_read_as_one(ranges: list[Range], gap: int) -> None:
    wide = merged(ranges, gap)
    assert numbers(ranges) <= numbers(wide)
    for first, second in pairwise(wide):
        assert (first.topic, first.partition) != (second.topic, second.partition) or second.start > first.end + gap
    assert {(r.topic, r.partition, r.start) for r in wide} <= {(r.topic, r.partition, r.start) for r in ranges}


@given(sets, st.lists(st.integers(0, 50), min_size=3, max_size=3), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_a_split_loses_nothing(ranges: list[Range], some: list[int], others: list[int]) -> None:
    starts = dict(zip(PLACES, map(min, some, others), strict=True))
    ends = dict(zip(PLACES, map(max, some, others), strict=True))
    below, within, past = split(ranges, starts, ends)
    assert numbers(below) | numbers(within) | numbers(past) == numbers(ranges)
    assert all(r.end <= starts[r.topic, r.partition] for r in below)
    assert all(starts[r.topic, r.partition] <= r.start and r.end <= ends[r.topic, r.partition] for r in within)
    assert all(r.start >= ends[r.topic, r.partition] for r in past)


def test_where_nothing_was_folded_everything_is_left_to_the_live_workers() -> None:
    """Invariant 8: a partition without a position has none below it."""
    unfolded = Range("webhooks.new", 0, 0, 9)
    assert split([unfolded], {}, {}) == ([], [], [unfolded])
