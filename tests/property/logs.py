"""Stories, and logs that tell them: each record once or more, in any order."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from tests.support.records import FakeRecord
from tests.support.story import STORIES, Author, World

NOW = 1_760_000_000
PARTITIONS = 2


@st.composite
def stories(draw: st.DrawFn, provider: str) -> World:
    author = Author(draw(st.integers(0, 2**32 - 1)), start=NOW - 200_000)
    for _ in range(draw(st.integers(1, 3))):
        STORIES[provider](author)
    return author.world


@st.composite
def logs(draw: st.DrawFn, records: Sequence[FakeRecord]) -> list[FakeRecord]:
    """Each of the records one to three times, in any order; copies share their time of arrival."""
    counts = draw(st.lists(st.integers(1, 3), min_size=len(records), max_size=len(records)))
    copies = [number for number, count in enumerate(counts) for _ in range(count)]
    return [
        replace(records[number], partition=offset % PARTITIONS, offset=offset, timestamp=NOW * 1000 + number)
        for offset, number in enumerate(draw(st.permutations(copies)))
    ]
