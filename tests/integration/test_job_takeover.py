"""Who runs a replay when processes end, and what an outage does to it."""

import asyncio
import contextlib
import dataclasses
from typing import Any

import asyncpg
import pytest

from replay import metrics
from replay.jobs import lease
from replay.jobs.runner import TakenOver
from replay.log.pacing import StopSignal
from replay.log.reader import LogReader
from schemas.cluster import Cluster
from tests.conftest import Stack
from tests.support.jobs import SLOWLY, assert_all_done, entry_of, has_begun, is_over, served
from tests.support.replays import everything, jobs_of, put, runner_of, state_of
from tests.support.waiting import until


async def test_of_two_that_take_it_at_once_one_runs_it(
    stack: Stack, log: str, database_url: str, connection: Any
) -> None:
    replay = await put(stack, connection, everything(log), rate=SLOWLY * 2)
    await asyncio.gather(*(jobs_of(stack, database_url).take(replay) for _ in range(3)))
    await assert_all_done(connection, replay)


async def test_a_session_that_ends_lets_another_process_go_on(
    stack: Stack, log: str, database_url: str, connection: Any, pool: Any
) -> None:
    """As a process that is killed, or a failover: every session is gone."""
    replay = await put(stack, connection, everything(log), rate=SLOWLY)
    first, second = jobs_of(stack, database_url), jobs_of(stack, database_url)
    running = asyncio.create_task(first.take(replay))
    await until(lambda: has_begun(connection, replay), "it runs")
    async with served(second, pool):
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await until(lambda: is_over(connection, replay), "the other has taken over")
    await asyncio.gather(running, return_exceptions=True)
    await assert_all_done(connection, replay)


async def test_a_frozen_process_loses_its_replay_and_one_that_is_heard_of_does_not(
    stack: Stack, log: str, database_url: str, connection: Any, pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Frozen, its session lives on: nothing but its silence tells."""
    replay = await put(stack, connection, everything(log))
    frozen = await asyncpg.connect(database_url)
    try:
        assert await lease.hold(frozen, replay) is not None
        assert await lease.end_frozen(connection) == []
        assert await lease.free(connection, replay) == []
        await connection.execute("UPDATE redrive.replays SET seen_at = now() - interval '31 seconds'")
        assert await lease.is_still_running(frozen, replay)
        assert await lease.end_frozen(connection) == []
        await connection.execute("UPDATE redrive.replays SET seen_at = now() - interval '31 seconds'")
        async with served(jobs_of(stack, database_url), pool):
            await until(lambda: is_over(connection, replay), "the other has taken over")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await lease.is_still_running(frozen, replay)
    finally:
        frozen.terminate()
    await assert_all_done(connection, replay)
    said = [one for one in caplog.records if getattr(one, "code", None) == "session_frozen"]
    assert [one.replay for one in said] == [str(replay)]  # type: ignore[attr-defined]


async def test_who_was_taken_for_dead_and_is_not_writes_nothing_twice(
    stack: Stack, log: str, database_url: str, connection: Any
) -> None:
    replay = await put(stack, connection, everything(log), rate=SLOWLY)
    job = await lease.hold(connection, replay)
    assert job is not None
    runner = runner_of(stack, database_url)
    zombie_pool, pool = [await asyncpg.create_pool(database_url, min_size=0, max_size=5) for _ in range(2)]
    try:
        zombie = asyncio.create_task(runner.redrive(job, zombie_pool, StopSignal()))
        await until(lambda: has_begun(connection, replay), "it runs")
        is_over = False
        while not is_over:
            # It has to start anew where the other one wrote last.
            with contextlib.suppress(TakenOver):
                await runner.redrive(dataclasses.replace(job, rate=None), pool, StopSignal())
                is_over = True
        with pytest.raises(TakenOver):
            await zombie
    finally:
        zombie_pool.terminate()
        pool.terminate()
    await lease.finish(connection, replay, "done")
    await assert_all_done(connection, replay)


async def test_an_outage_is_waited_for_and_the_entry_says_so(
    stack: Stack, log: str, database_url: str, connection: Any
) -> None:
    replay = await put(stack, connection, everything(log))
    is_away = True

    def open_reader() -> LogReader:
        return LogReader(Cluster("127.0.0.1:1")) if is_away else LogReader(stack.cluster)

    jobs = jobs_of(stack, database_url, open_reader=open_reader)
    running = asyncio.create_task(jobs.take(replay))

    async def says_why() -> bool:
        entry = await entry_of(connection, replay)
        return bool(entry["slowed_by"]) and "Kafka does not answer" in entry["slowed_by"]

    await until(says_why, "it says what it waits for")
    assert await state_of(connection, replay) == "running"
    assert metrics.SLOWED.labels("waiting")._value.get() == 1
    is_away = False
    await running
    await assert_all_done(connection, replay)
    assert (await entry_of(connection, replay))["slowed_by"] is None
    assert metrics.SLOWED.labels("waiting")._value.get() == 0
