"""A record that the Kafka client can't read: who can do without it passes it over, and the others say which it is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deploy.reload import Control
from replay.jobs import ledger
from replay.jobs.ledger import NewReplay
from replay.log.reader import LogReader
from replay.selection.selection import Range
from schemas.errors import UnreadableRecord
from schemas.source_state import SourceState
from schemas.topics import CONTROL, source_of
from tests.conftest import Stack
from tests.support import signing
from tests.support.bad_records import produce_unreadable
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import PARTITIONS, FakeRecord, batch, payment, produce
from tests.support.replays import ADA, everything, jobs_of, never_folded, pinned_to, planned
from tests.support.waiting import until

BAD = 1
"""The partition with the bad records."""


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.location for line in caplog.records if getattr(line, "code", None) == "record_unreadable"]  # type: ignore[attr-defined]


async def deliver(running: RunningIngress, name: str, number: int) -> str:
    body = payment(number)
    status, answer, _ = await post(running, f"/webhooks/{name}", body, signing.stripe(body, now_ms() // 1000))
    assert status == 200, answer
    return str(answer["status"])


async def test_an_ingress_that_starts_passes_the_records_over_and_knows_what_is_around_them(
    stack: Stack, topic: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = source_of(topic)
    await produce(stack.servers, batch(topic, range(60)))
    bad = [await produce_unreadable(stack.servers, topic, BAD) for _ in range(3)]
    await produce(stack.servers, batch(topic, range(60, 120)))
    async with run_ingress(stack, {name: source(name, "stripe")}, tmp_path, now_ms) as running:
        # The numbers that are 1 modulo 3 are in the partition: the last before the records, and the last behind them.
        for number in (0, 2, 58, 60, 118, 119):
            assert await deliver(running, name, number) == "duplicate", number
        assert await deliver(running, name, 120) == "accepted"
    assert lines(caplog)[0] == f"{topic}/{BAD}/{bad[0]}"
    assert len(lines(caplog)) <= len(bad)


async def test_what_operators_said_of_sources_is_followed_past_the_record(
    stack: Stack, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = source_of(topic)

    async def say(state: str) -> None:
        key, value = SourceState(name, state, "ada", "", "now").encode()  # type: ignore[arg-type]
        await produce(stack.servers, [FakeRecord(CONTROL, 0, 0, now_ms(), key, value)])

    control = Control(stack.cluster)
    heard: list[str] = []
    await say("paused")
    # So many that a reader which takes longer steps over them would miss what comes next.
    for _ in range(4):
        await produce_unreadable(stack.servers, CONTROL, 0)
    await say("disabled")
    await control.start()
    following = None
    try:
        assert (await control.catch_up())[name].state == "disabled"
        following = asyncio.create_task(control.follow(lambda states: heard.append(states[name].state)))
        bad = await produce_unreadable(stack.servers, CONTROL, 0)
        await say("active")
        await until(lambda: heard[-1:] == ["active"] or following.done(), "what was said behind the record")
        assert not following.done()
        assert f"{CONTROL}/0/{bad}" in lines(caplog)
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await control.stop()


async def test_a_reader_reads_all_else_and_says_which_record_it_was(stack: Stack, topic: str) -> None:
    await produce(stack.servers, batch(topic, range(30)))
    bad = await produce_unreadable(stack.servers, topic, BAD)
    await produce(stack.servers, batch(topic, range(30, 60)))
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}
    async with LogReader(stack.cluster) as reader:
        ranges = [Range(topic, 0, 0, 20), Range(topic, BAD, 0, 21), Range(topic, 2, 0, 20)]

        async def read_all() -> None:
            async for part, records in reader.read(ranges):
                found[part.partition] += [record.offset for record in records]

        with pytest.raises(UnreadableRecord, match=rf"{topic}/{BAD}/{bad} can't be read") as raised:
            await read_all()
        assert raised.value.code == "unreadable_record"
        assert found == {0: [*range(20)], BAD: [*range(bad)], 2: [*range(20)]}
        # The same reader: the record is in nobody's way who does not ask for it.
        read = [
            record.offset
            async for _, records in reader.read([Range(topic, BAD, 3, bad), Range(topic, BAD, bad + 1, 21)])
            for record in records
        ]
        assert read == [*range(3, bad), *range(bad + 1, 21)]
        with pytest.raises(UnreadableRecord):
            await reader.record(Range(topic, BAD, bad, bad + 1))


async def test_a_replay_that_meets_it_folds_all_else_and_fails_with_the_record(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    await never_folded(stack, connection, topic, 30)
    bad = await produce_unreadable(stack.servers, topic, BAD)
    await connection.execute("UPDATE redrive.positions SET next_offset = $2 WHERE partition = $1", BAD, bad + 1)
    with pytest.raises(UnreadableRecord):
        await planned(stack, connection, everything(topic))
    plan = pinned_to(everything(topic), [Range(topic, p, 0, 10 + (p == BAD)) for p in range(PARTITIONS)])
    replay = await ledger.create(connection, NewReplay(plan, 1, ADA))
    await jobs_of(stack, database_url).take(replay)
    entry = await ledger.show_replay(connection, replay)
    assert (entry["state"], entry["records"], entry["rows_changed"]) == ("failed", 30, 30)
    assert f"{topic}/{BAD}/{bad} can't be read" in entry["error"]
