"""A partition that stands still is read again; one that only waits for its turn is not."""

from typing import Any, cast

import asyncpg
import pytest
from faust.types import TP

from processors.worker import PATIENCE, Worker

BUSY, STILL = TP("webhooks.stripe", 0), TP("webhooks.stripe", 1)


@pytest.fixture
async def worker() -> Worker:
    """With a pool that opens no connection."""
    pool = await asyncpg.create_pool("postgresql://nobody@localhost/none", min_size=0)
    return Worker(pool, cast(Any, None))


def looking(worker: Worker, *, moves: bool) -> list[bool]:
    """What is said at each look; from the second on, the partition stood still in between."""
    worker._expected = {BUSY: 0, STILL: 5}
    said = []
    for _ in range(PATIENCE + 2):
        said.append(worker.has_stalled({BUSY: 10_000, STILL: 9}))
        worker._expected[BUSY] += 100 if moves else 0
    return said


async def test_where_nothing_moves_the_second_look_says_so(worker: Worker) -> None:
    assert looking(worker, moves=False)[:2] == [False, True]


async def test_while_others_move_one_that_stands_still_is_given_time_and_not_for_ever(worker: Worker) -> None:
    said = looking(worker, moves=True)
    assert said.index(True) == PATIENCE
    assert said.count(True) == 1


async def test_what_has_been_folded_to_its_end_has_not_stalled(worker: Worker) -> None:
    worker._expected = {STILL: 9}
    assert [worker.has_stalled({STILL: 9}) for _ in range(3)] == [False] * 3
