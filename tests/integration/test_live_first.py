"""Invariant 11 on the real log and database: a replay gives way while live traffic falls behind, and the ledger says so."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy import redriving
from deploy.wiring import Runtime
from replay import metrics
from replay.jobs.ledger import show_replay
from replay.log.live_traffic import TOLERATED_RECORDS, Lag, LiveFirst, LiveTraffic
from replay.log.reader import LogReader
from replay.log.topic_ids import Logs
from replay.ports import Connection
from replay.selection.selection import Range
from tests.conftest import Stack
from tests.support.records import batch, produce
from tests.support.replays import everything, jobs_of, put
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

FIRST = 900


async def test_a_replay_slows_down_while_live_lag_grows_and_says_why(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    holder = await asyncpg.connect(database_url)
    observer = await asyncpg.connect(database_url)
    number = FIRST
    try:
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await produce(stack.servers, batch(topic, range(FIRST)))
            await until(folded(connection, FIRST), "what is to be replayed")
            replay = await put(stack, connection, everything(topic), rate=100)
            # Who folds partition 0 waits for this row; the others go on, so that somebody is seen to fold.
            held = holder.transaction()
            await held.start()
            await holder.execute("SELECT FROM redrive.positions WHERE topic = $1 AND partition = 0 FOR UPDATE", topic)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(jobs_of(stack, database_url).take(replay))
                entry = await show_replay(observer, replay)
                while entry["slowed_by"] is None:
                    assert not running.done(), "it went on as if nothing were"
                    await produce(stack.servers, batch(topic, range(number, number + 600)))
                    number += 600
                    entry = await show_replay(observer, replay)
                assert entry["state"] == "running"
                assert entry["slowed_by"].startswith("live traffic is ")
                assert metrics.SLOWED.labels("live_traffic")._value.get() == 1
                await held.rollback()
                await until(folded(observer, number), "live traffic has caught up")
                await until(lambda: full_pace(observer, replay), "the replay goes on at its own pace")
        entry = await show_replay(observer, replay)
        assert (entry["state"], entry["records"], entry["slowed_by"]) == ("done", FIRST, None)
        assert metrics.SLOWED.labels("live_traffic")._value.get() == 0
    finally:
        await holder.close()
        await observer.close()


async def full_pace(connection: Any, replay: uuid.UUID) -> bool:
    return (await show_replay(connection, replay))["slowed_by"] is None


async def test_a_source_that_nobody_folds_holds_up_no_replay(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """It is paused, or all workers are stopped: its lag grows for as long as they are."""
    await produce(stack.servers, batch(topic, range(30)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 30), "the fold")
    async with LogReader(stack.cluster) as reader:
        lag = Lag(connection, reader.ends)
        assert await lag.read() is None
        await produce(stack.servers, batch(topic, range(30, 30 + 2 * TOLERATED_RECORDS)))
        assert await lag.read() is None
        await connection.execute("UPDATE redrive.positions SET next_offset = 11 WHERE partition = 0")
        assert await lag.read() == 2 * TOLERATED_RECORDS - 1


async def test_the_ends_of_partitions_that_are_gone_are_left_out(stack: Stack, topic: str) -> None:
    async with LogReader(stack.cluster) as reader:
        assert await reader.ends({(topic, 0), (topic, 99), ("webhooks.gone", 0)}) == {(topic, 0): 0}


async def test_a_proof_gives_way_while_live_lag_grows(
    stack: Stack,
    topic: str,
    database_url: str,
    runtime: Runtime,
    connection: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it is wired: the snapshot that it holds open must not be what tells it of the lag."""
    holder = await asyncpg.connect(database_url)
    reasons: list[str | None] = []
    number = FIRST

    class Piecemeal(LogReader):
        """Record by record, each beside more live traffic until the proof has slowed down for it."""

        async def read(
            self, ranges: Sequence[Range], logs: Logs | None = None
        ) -> AsyncIterator[tuple[Range, list[Any]]]:
            nonlocal number
            async for part, records in super().read(ranges, logs):
                for one in records:
                    if not reasons:
                        assert number < 60_000, "it went on as if nothing were"
                        await produce(stack.servers, batch(topic, range(number, number + 300)))
                        number += 300
                    yield Range(part.topic, part.partition, one.offset, one.offset + 1), [one]

    async def note(reason: str | None) -> None:
        reasons.append(reason)
        # The row that the fold of partition 0 waits for.
        if len(reasons) == 1:
            await held.rollback()

    def live_first(reader: LogReader, connection: Connection) -> LiveFirst:
        return LiveFirst(reader, LiveTraffic(Lag(connection, reader.ends).read, note))

    monkeypatch.setattr(redriving, "LogReader", Piecemeal)
    monkeypatch.setattr(redriving, "live_first", live_first)
    try:
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await produce(stack.servers, batch(topic, range(FIRST)))
            await until(folded(connection, FIRST), "what is to be proved")
            held = holder.transaction()
            await held.start()
            await holder.execute("SELECT FROM redrive.positions WHERE topic = $1 AND partition = 0 FOR UPDATE", topic)
            made = await redriving.prove(runtime, lambda done, of: None)
        assert (made.verdict, made.counts.records) == ("equal", FIRST)
        assert str(reasons[0]).startswith("live traffic is ")
    finally:
        await holder.close()
