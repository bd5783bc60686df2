"""Invariant 8: a replay re-drives the records of its plan, and no others that have their offsets now."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deploy.terminal.dry_run_folding import foresee
from replay.jobs import ledger
from replay.log.reader import LogReader
from replay.selection.selection import Range
from schemas.errors import RecordsGone
from tests.conftest import Stack
from tests.support.records import batch, produce
from tests.support.replays import RECORDS, Recorder, everything, jobs_of, planned, put
from tests.support.tables import physical_rows
from tests.support.topics import delete, make_anew
from tests.support.waiting import limit

ARRIVAL = 1_760_000_000_000
TARGET = {"kind": "topic", "name": "copies.x"}


async def other_log(stack: Stack, topic: str) -> None:
    """At least as many records, all of other events."""
    await make_anew(stack.servers, topic)
    await produce(stack.servers, batch(topic, range(500, 500 + 2 * RECORDS)))


async def no_log(stack: Stack, topic: str) -> None:
    await delete(stack.servers, [topic])


@pytest.mark.parametrize("change", [other_log, no_log])
@pytest.mark.parametrize("target", [None, TARGET])
async def test_a_job_finds_the_records_of_its_plan_gone(
    stack: Stack,
    folded_topic: str,
    database_url: str,
    connection: Any,
    change: Callable[[Stack, str], Awaitable[None]],
    target: dict[str, Any] | None,
) -> None:
    replay = await put(stack, connection, everything(folded_topic), target=target)
    await change(stack, folded_topic)
    before, recorder = await physical_rows(connection), Recorder()
    recorder.gate.set()
    async with limit("the job's end"):
        await jobs_of(stack, database_url, recorder).take(replay)
    entry = await ledger.show_replay(connection, replay)
    assert entry["state"] == "failed"
    assert entry["error"].startswith(f"records gone: the topic {folded_topic} was deleted"), entry["error"]
    assert entry["records"] == 0
    assert recorder.taken == []
    assert await physical_rows(connection) == before


async def test_a_job_of_before_ids_were_kept_runs(
    stack: Stack, folded_topic: str, database_url: str, connection: Any
) -> None:
    replay = await put(stack, connection, everything(folded_topic))
    await connection.execute("UPDATE redrive.replay_progress SET topic_id = NULL")
    await jobs_of(stack, database_url).take(replay)
    entry = await ledger.show_replay(connection, replay)
    assert (entry["state"], entry["records"]) == ("done", RECORDS)


@pytest.mark.parametrize("change", [other_log, no_log])
async def test_a_topic_that_goes_while_it_is_read_ends_the_reading(
    stack: Stack, folded_topic: str, change: Callable[[Stack, str], Awaitable[None]]
) -> None:
    """What was read before is of the plan; nothing that comes after it is."""
    parts = [Range(folded_topic, 0, 0, 5), Range(folded_topic, 0, 20, 30)]
    async with LogReader(stack.cluster) as reader, limit("the end of the reading"):
        reading = reader.read(parts, await reader.logs([folded_topic]))
        assert (await anext(reading))[0] == parts[0]
        await change(stack, folded_topic)
        with pytest.raises(RecordsGone, match=f"records gone: the topic {folded_topic} was deleted"):
            await anext(reading)


async def test_a_dry_run_of_a_plan_whose_records_are_gone_shows_no_others(
    stack: Stack, folded_topic: str, connection: Any
) -> None:
    plan = await planned(stack, connection, everything(folded_topic))
    await other_log(stack, folded_topic)
    async with LogReader(stack.cluster) as reader:
        with pytest.raises(RecordsGone):
            await foresee(reader, connection, plan)
