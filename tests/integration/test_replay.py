"""Invariant 8: a replay adds what is missing, changes nothing that was right, and leaves the live positions alone."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from replay.jobs import ledger
from replay.jobs.ledger import list_replays
from replay.selection.selection import Range, parse_offsets
from schemas.errors import InvalidSelection
from tests.conftest import Stack
from tests.support.records import batch, produce, record, stripe_event
from tests.support.replays import RECORDS, everything, jobs_of, never_folded, planned, put, rerun
from tests.support.selections import selected
from tests.support.tables import physical_rows
from tests.support.waiting import until
from tests.support.workers import folded, run_worker


async def test_a_replay_of_what_stands_rewrites_no_row(
    stack: Stack, folded_topic: str, database_url: str, connection: Any
) -> None:
    before = await physical_rows(connection)
    entry = await rerun(stack, database_url, connection, everything(folded_topic))
    assert (entry["state"], entry["records"], entry["rows_changed"], entry["dead"]) == ("done", RECORDS, 0, 0)
    assert await physical_rows(connection) == before
    audit = await connection.fetchrow("SELECT operator, action, reason FROM redrive.audit")
    assert tuple(audit) == ("ada", "replay.run", "because")
    assert [one["id"] for one in await list_replays(connection, 10)] == [entry["id"]]


async def test_a_replay_adds_what_is_missing(
    stack: Stack, folded_topic: str, database_url: str, connection: Any
) -> None:
    await connection.execute("DELETE FROM gen_1.payments WHERE payment_intent_id IN ('pi_3', 'pi_4', 'pi_89')")
    positions = await connection.fetch("SELECT * FROM redrive.positions ORDER BY topic, partition")
    entry = await rerun(stack, database_url, connection, everything(folded_topic))
    assert entry["rows_changed"] == 3
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS
    assert await connection.fetch("SELECT * FROM redrive.positions ORDER BY topic, partition") == positions


async def test_offsets_at_and_above_the_live_position_belong_to_the_live_workers(
    stack: Stack, folded_topic: str, database_url: str, connection: Any
) -> None:
    await produce(stack.servers, batch(folded_topic, range(RECORDS, RECORDS + 30)))
    plan = await planned(stack, connection, everything(folded_topic))
    assert (plan.records, plan.left_to_live) == (RECORDS, 30)
    entry = await rerun(stack, database_url, connection, everything(folded_topic))
    assert entry["records"] == RECORDS
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS


async def test_a_plan_counts_by_type_partition_and_time(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    records = batch(topic, range(30))
    other = stripe_event("evt_other", "invoice.sent", {"id": "in_1"})
    records.append(record(topic, "stripe", other, partition=1))
    for number, one in enumerate(records):
        # Later offsets may carry earlier times: every record is asked.
        one.timestamp = now - 60_000 * ((number * 7) % 31)
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 31), "the fold")
    source = topic.removeprefix("webhooks.")
    window = selected((source,), from_ms=now - 600_000, to_ms=now)
    plan = await planned(stack, connection, window)
    expected = [one for one in records if now - 600_000 <= one.timestamp < now]
    assert plan.records == len(expected)
    assert (plan.first_ms, plan.last_ms) == (min(r.timestamp for r in expected), max(r.timestamp for r in expected))
    for partition in range(3):
        assert plan.per_partition[topic, partition] == sum(one.partition == partition for one in expected)
    by_type = await planned(stack, connection, everything(topic, types=("stripe.invoice.*",)))
    assert dict(by_type.types) == {"stripe.invoice.sent": 1}
    by_id = await planned(stack, connection, selected((source,), event_ids=("evt_other",)))
    assert [(part.partition, len(part)) for part in by_id.ranges] == [(1, 1)]
    by_offset = await planned(stack, connection, selected((source,), offsets=(f"{topic}:0:2-4",)))
    assert (by_offset.records, by_offset.ranges) == (3, [Range(topic, 0, 2, 5)])


async def test_a_type_selects_a_batch_by_the_events_inside(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    fixtures = Path(__file__).parents[1] / "fixtures" / "whatsapp"
    bodies = [(fixtures / name).read_bytes() for name in ("status.sent.json", "message.text.json")]
    await produce(stack.servers, [record(topic, "whatsapp", body, partition=0) for body in bodies])
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 2), "the fold")
    plan = await planned(stack, connection, everything(topic, types=("whatsapp.status.*",)))
    assert plan.records == 1


async def test_a_replay_next_to_live_traffic_and_another_replay_changes_nothing_that_was_right(
    stack: Stack, folded_topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    source = folded_topic.removeprefix("webhooks.")
    first, second = (
        selected((source,), offsets=tuple(f"{folded_topic}:{p}:0-29" for p in partitions))
        for partitions in ((0, 1), (2,))
    )
    other = await asyncpg.connect(database_url)
    try:
        async with run_worker(stack, database_url, folded_topic, folded_topic, tmp_path):
            await asyncio.gather(
                produce(stack.servers, batch(folded_topic, range(RECORDS, RECORDS + 300))),
                rerun(stack, database_url, connection, first),
                rerun(stack, database_url, other, second, rate=2000),
            )
            await until(folded(connection, RECORDS + 300), "the live traffic")
    finally:
        await other.close()
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS + 300
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index") == RECORDS + 300


async def test_a_replay_of_another_generation_is_refused_and_the_ledger_says_so(
    stack: Stack, folded_topic: str, database_url: str, connection: Any
) -> None:
    replay = await put(stack, connection, everything(folded_topic))
    await connection.execute("UPDATE redrive.generation SET live = 2")
    await jobs_of(stack, database_url).take(replay)
    entry = await ledger.show_replay(connection, replay)
    assert (entry["state"], entry["records"]) == ("failed", 0)
    assert "another generation" in entry["error"].lower()


async def test_a_poison_record_in_the_window_is_counted_and_stops_nothing(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    records = batch(topic, range(12))
    records[5] = record(topic, "stripe", b"junk", partition=0)
    # Kafka knows headers without a value.
    records[7] = replace(records[7], headers=[("ce_type", None), ("ce_time", None)])
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 12), "the fold")
    by_time = selected((topic.removeprefix("webhooks."),), from_ms=0, types=("unknown",), by="event")
    assert (await planned(stack, connection, by_time)).records == 1
    entry = await rerun(stack, database_url, connection, everything(topic))
    assert (entry["state"], entry["records"], entry["dead"], entry["rows_changed"]) == ("done", 12, 2, 0)


def test_a_selection_never_guesses() -> None:
    with pytest.raises(InvalidSelection):
        selected(("stripe",))
    with pytest.raises(InvalidSelection):
        selected(("stripe",), from_ms=5, to_ms=5)
    for text in ("x", "t:1", "t:a:0-1", "t:1:5-4", "t:1:-1-4"):
        with pytest.raises(InvalidSelection):
            parse_offsets(text)


async def test_a_rate_limit_cuts_what_one_fetch_brought(
    stack: Stack, folded_topic: str, database_url: str, connection: Any
) -> None:
    """Each portion moves the progress by itself, so a low rate neither bursts nor stands still."""
    await connection.execute(
        "CREATE TABLE public.steps AS SELECT 0::bigint AS records WHERE false;"
        "CREATE FUNCTION public.step() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.steps VALUES (NEW.records - OLD.records); RETURN NEW; END $$;"
        "CREATE TRIGGER step AFTER UPDATE ON redrive.replay_progress FOR EACH ROW EXECUTE FUNCTION public.step()"
    )
    entry = await rerun(stack, database_url, connection, everything(folded_topic), rate=100)
    assert (entry["state"], entry["records"], entry["rows_changed"]) == ("done", RECORDS, 0)
    steps = [row["records"] for row in await connection.fetch("SELECT records FROM public.steps")]
    assert sum(steps) == RECORDS
    assert max(steps) <= 10


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("plan", '{"ranges": {"webhooks.stripe:0": [0, "x"]}, "located": [null]}'),
        ("plan", '{"ranges": {}, "located": []}'),
        ("selection", '{"from": "1970-01-01T00:00:00+00:00", "moon": "full"}'),
    ],
    ids=["a plan that is none", "a plan of another selection", "a criterion of another version"],
)
async def test_an_entry_that_cant_be_read_ends_and_says_why(
    stack: Stack, topic: str, database_url: str, connection: Any, column: str, written: str
) -> None:
    """Else it would be taken up again every second, for ever."""
    await never_folded(stack, connection, topic, 3)
    replay = await put(stack, connection, everything(topic))
    # The column is one of the two above.
    await connection.execute(f"UPDATE redrive.replays SET {column} = $2::jsonb WHERE id = $1", replay, written)
    await jobs_of(stack, database_url).take(replay)
    entry = await ledger.brief(connection, replay)
    assert (entry["state"], entry["rows_changed"]) == ("failed", 0)
    assert "stored plan" in entry["error"] or "moon" in entry["error"]
