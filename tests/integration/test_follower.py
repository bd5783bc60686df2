"""Generations that are kept next to the live one: what is told of them, and who is at them."""

import asyncio
from typing import Any

import pytest

from replay import metrics
from replay.locks import Lock, advisory_lock
from replay.log.reader import LogReader
from replay.rebuild import lifecycle
from replay.rebuild.fold import CLOSE_OFFSETS, build
from replay.rebuild.follower import Follower
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from tests.conftest import Stack
from tests.support.rebuilds import TESTER, rebuilding
from tests.support.replays import never_folded


async def test_it_is_told_how_far_a_generation_is_behind_also_while_nobody_can_fold_it(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    def behind() -> dict[str, float]:
        return {sample.labels["generation"]: sample.value for sample in next(iter(metrics.BEHIND.collect())).samples}

    await never_folded(stack, connection, topic, 30)
    async with (
        rebuilding(stack, database_url) as ports,
        rebuilding(stack, database_url, open_log=lambda: LogReader(Cluster("127.0.0.1:1"))) as severed,
    ):
        await lifecycle.begin(connection, ports, None, TESTER)
        with pytest.raises(Unavailable):
            await Follower(severed).follow()
        assert behind() == {"2": 30}
        await Follower(ports).follow()
        assert behind() == {"2": 0}
        await lifecycle.drop(connection, 2, TESTER)
        await Follower(ports).follow()
        assert behind() == {}


async def test_who_builds_what_another_is_at_waits_and_goes_on_where_that_one_ends(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    records = CLOSE_OFFSETS + 1
    await never_folded(stack, connection, topic, records)
    looks: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    async with rebuilding(stack, database_url) as ports, ports.open_log() as reader:
        generation = await lifecycle.begin(connection, ports, None, TESTER)
        async with advisory_lock(connection, Lock.FOLD, "try", generation.number) as is_ours:
            assert is_ours
            building = asyncio.create_task(build(ports, generation, reader, lambda *way: looks.put_nowait(way)))
            assert [await looks.get(), await looks.get()] == [(0, records)] * 2
        fold = await building
        assert await fold.way(connection) == (records, records)
