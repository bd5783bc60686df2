"""A replay as a job: its states, who runs it, what survives, and that each record is counted once (invariants 8, 10)."""

import asyncio
from typing import Any

import pytest

from replay import metrics
from replay.audit import Author
from replay.jobs import lease, ledger
from replay.ports import SendResult
from replay.selection.selection import Selection
from schemas.errors import InvalidTransition, OverlappingReplay
from tests.conftest import Stack
from tests.support.jobs import RECORDS, SLOWLY, assert_all_done, entry_of, has_begun, is_over, served
from tests.support.records import payment, produce, record
from tests.support.replays import ADA, Recorder, everything, jobs_of, never_folded, planned, put, rerun, state_of
from tests.support.selections import selected
from tests.support.waiting import until


async def test_a_paused_replay_writes_nothing_more_and_goes_on_where_it_was(
    stack: Stack, log: str, database_url: str, connection: Any, pool: Any
) -> None:
    replay = await put(stack, connection, everything(log), rate=SLOWLY)
    assert await state_of(connection, replay) == "planned"
    async with served(jobs_of(stack, database_url), pool):
        await until(lambda: has_begun(connection, replay), "it runs")
        paused = await ledger.change(connection, replay, "pause", ADA)
        assert 0 < paused["records"] < RECORDS
        await until(lambda: is_let_go(connection, replay), "nobody holds it")
        later = await ledger.show_replay(connection, replay)
        assert later == paused, "the answer was the end of it"
        assert metrics.PROGRESS._metrics.get((str(replay),)) is None, "nobody runs it"
        assert (await ledger.change(connection, replay, "pause", ADA))["state"] == "paused", "no error"
        await ledger.change(connection, replay, "resume", ADA)
        await until(lambda: is_over(connection, replay), "it goes on")
    await assert_all_done(connection, replay)
    actions = await connection.fetch("SELECT operator, action, reason FROM redrive.audit ORDER BY id")
    expected = ["replay.run", "replay.pause", "replay.pause", "replay.resume"]
    assert [tuple(row) for row in actions] == [("ada", action, "because") for action in expected]


async def is_let_go(connection: Any, replay: Any) -> bool:
    found = await connection.fetchval(
        "SELECT pg_try_advisory_xact_lock(hashtext('redrive.replay'), hashtext($1::uuid::text))", replay
    )
    return bool(found)


@pytest.mark.parametrize("state", ["planned", "running", "paused"])
async def test_it_is_cancelled_from_every_state_before_its_end(
    stack: Stack, log: str, database_url: str, connection: Any, pool: Any, state: str
) -> None:
    replay = await put(stack, connection, everything(log), rate=SLOWLY)
    jobs = jobs_of(stack, database_url)
    if state == "paused":
        await ledger.change(connection, replay, "pause", ADA)
    if state == "running":
        async with served(jobs, pool):
            await until(lambda: has_begun(connection, replay), "it runs")
            entry = await ledger.change(connection, replay, "cancel", ADA)
            await until(lambda: is_let_go(connection, replay), "nobody holds it")
    else:
        entry = await ledger.change(connection, replay, "cancel", ADA)
    await jobs.take(replay)
    assert (entry["state"], entry["finished_at"] is None) == ("cancelled", False)
    assert await ledger.show_replay(connection, replay) == entry
    for verb in ("pause", "resume"):
        with pytest.raises(InvalidTransition, match="is cancelled"):
            await ledger.change(connection, replay, verb, ADA)
    again = await rerun(stack, database_url, connection, everything(log))
    assert again["records"] == RECORDS, "what ended is in nobody's way"


async def test_what_overlaps_is_refused_until_the_first_has_ended_and_what_does_not_is_not(
    stack: Stack, log: str, database_url: str, connection: Any
) -> None:
    source = (log.removeprefix("webhooks."),)

    def part(*texts: str) -> Selection:
        return selected(source, offsets=tuple(f"{log}:{text}" for text in texts))

    first = await put(stack, connection, part("0:0-4", "1:0-29"))
    for state in ("planned", "paused"):
        with pytest.raises(OverlappingReplay, match=f"{first} is {state}") as refused:
            await put(stack, connection, part("0:4-6"))
        assert f"{log}/0/4" in str(refused.value)
        await ledger.change(connection, first, "pause", ADA)
    await put(stack, connection, part("0:5-6", "2:0-29"))
    await put(stack, connection, part("0:0-4"), target={"kind": "recorder"})
    with pytest.raises(OverlappingReplay):
        await put(stack, connection, part("0:0-4"), target={"kind": "recorder"})
    await ledger.change(connection, first, "cancel", ADA)
    await put(stack, connection, part("0:0-4"))
    assert await connection.fetchval("SELECT count(*) FROM redrive.audit WHERE action = 'replay.run'") == 4


async def test_a_range_that_the_log_no_longer_holds_fails_the_replay(
    stack: Stack, log: str, database_url: str, connection: Any
) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
    from aiokafka.structs import TopicPartition

    replay = await put(stack, connection, everything(log))
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(log, 1): RecordsToDelete(before_offset=7)})
    finally:
        await admin.close()
    await jobs_of(stack, database_url).take(replay)
    entry = await entry_of(connection, replay)
    assert entry["state"] == "failed"
    assert "OffsetOutOfRange" in entry["error"]


async def test_what_went_to_a_target_is_noted_also_when_it_was_paused_meanwhile_and_nothing_goes_after(
    stack: Stack, log: str, database_url: str, connection: Any
) -> None:
    recorder = Recorder(answer=lambda record: SendResult("failed" if record.offset == 3 else "delivered", 200))
    jobs = jobs_of(stack, database_url, recorder)
    replay = await put(stack, connection, everything(log), target={"kind": "recorder"}, rate=SLOWLY)
    running = asyncio.create_task(jobs.take(replay))
    await until(lambda: recorder.taken, "something was sent")
    await ledger.change(connection, replay, "pause", ADA)
    sent = len(recorder.taken)
    recorder.gate.set()
    await running
    entry = await entry_of(connection, replay)
    assert entry["state"] == "paused"
    assert len(recorder.taken) == sent == len(recorder.noted) == entry["records"]
    await ledger.change(connection, replay, "resume", ADA)
    await jobs.take(replay)
    entry = await entry_of(connection, replay)
    assert (entry["state"], entry["records"], entry["failed"], entry["rows_changed"]) == ("done", RECORDS, 3, 0)
    assert sorted((one.partition, one.offset) for one in recorder.taken) == [
        (partition, offset) for partition in range(3) for offset in range(RECORDS // 3)
    ]
    assert await connection.fetchval("SELECT count(*) FROM payments") == 0


async def test_an_entry_of_an_earlier_version_keeps_its_counts_and_nobody_runs_it(
    stack: Stack, database_url: str, connection: Any, pool: Any
) -> None:
    await connection.execute(
        "INSERT INTO redrive.replays (id, state, selection, generation, operator, reason, records, events,"
        " rows_changed, dead, total) VALUES (gen_random_uuid(), 'done', '{\"sources\":[\"stripe\"]}', 1, 'ines', 'old',"
        " 7, 8, 2, 1, 7)"
    )
    (entry,) = await ledger.list_replays(connection, 10)
    assert (entry["records"], entry["events"], entry["rows_changed"], entry["dead"]) == (7, 8, 2, 1)
    assert (entry["progress"], entry["selection"]) == (1.0, {"sources": ["stripe"]})
    await connection.execute("UPDATE redrive.replays SET state = 'running'")
    assert await lease.free(pool) == []


async def test_who_and_why_can_be_no_garbage(stack: Stack, log: str, connection: Any) -> None:
    from schemas.errors import InvalidSelection

    replay = await put(stack, connection, everything(log))
    with pytest.raises(InvalidSelection):
        await ledger.change(connection, replay, "pause", Author("ada", "a\0b"))
    assert await state_of(connection, replay) == "planned", "nothing happens that is not on record"


async def test_a_plan_is_pinned(stack: Stack, log: str, database_url: str, connection: Any) -> None:
    """What arrives after it, and what becomes live after it, is not part of it."""
    plan = await planned(stack, connection, everything(log))
    replay = await put(stack, connection, everything(log))
    await connection.execute("DELETE FROM redrive.positions")
    await never_folded(stack, connection, log, 30)
    await connection.execute("UPDATE redrive.positions SET next_offset = 40")
    await jobs_of(stack, database_url).take(replay)
    entry = await entry_of(connection, replay)
    assert entry["records"] == plan.records == RECORDS


async def test_records_larger_than_a_fetch_are_redriven(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    """Two of each partition: behind a large one comes the next."""
    padded = [record(topic, "stripe", payment(n) + b" " * 2**22, partition=n % 3) for n in range(6)]
    await produce(stack.servers, padded)
    rows = [(topic, partition, 2) for partition in range(3)]
    await connection.executemany("INSERT INTO redrive.positions VALUES (1, $1, $2, $3)", rows)
    entry = await rerun(stack, database_url, connection, everything(topic))
    assert (entry["state"], entry["records"], entry["dead"], entry["rows_changed"]) == ("done", 6, 0, 6)
