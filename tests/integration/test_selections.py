"""What a selection means on the real log: exactly these records, and what of them is gone."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from processors.fold import fold_record
from replay.jobs.plan import Plan
from replay.log.reader import LogReader
from replay.selection.matcher import Fold
from replay.selection.selection import Range, Selection
from tests.conftest import Stack
from tests.support.records import FakeRecord, payment, produce, record, stripe_event
from tests.support.replays import everything, planned, rerun
from tests.support.selections import any_of, selected
from tests.support.topics import create, delete

CREATED = 1_760_000_000


def refund(number: int) -> bytes:
    """Of a payment; it names no customer."""
    data = {"id": f"ch_{number}", "object": "charge", "payment_intent": f"pi_{number}", "amount": 100, "currency": "eur", "amount_refunded": 40, "refunded": False}  # fmt: skip
    return stripe_event(f"evt_refund_{number}", "charge.refunded", data, CREATED + 5)


def invoice(number: int, customer: str) -> bytes:
    data = {"id": f"in_{number}", "object": "invoice", "customer": customer, "status": "open", "amount_due": 5, "amount_paid": 0, "currency": "eur", "created": CREATED}  # fmt: skip
    return stripe_event(f"evt_invoice_{number}", "invoice.finalized", data, CREATED + number)


@pytest.fixture
async def logged(stack: Stack, topic: str, connection: Any, database_url: str) -> list[FakeRecord]:
    """Sixty records over three partitions, one of them junk, all folded by a replay."""
    bodies = [payment(n, customer=f"cus_{n % 4}", created=CREATED + n) for n in range(30)]
    bodies += [refund(n) for n in range(15)]
    bodies += [invoice(n, f"cus_{n % 4}") for n in range(14)]
    bodies.append(b"junk")
    records = [record(topic, "stripe", body, offset=n // 3, partition=n % 3) for n, body in enumerate(bodies)]
    await produce(stack.servers, records)
    rows = [(topic, partition, len(records) // 3) for partition in range(3)]
    await connection.executemany("INSERT INTO redrive.positions VALUES (1, $1, $2, $3)", rows)
    await rerun(stack, database_url, connection, everything(topic))
    return records


async def redriven(stack: Stack, plan: Plan, fold: Fold = fold_record) -> set[tuple[int, int]]:
    """(partition, offset) of what a run would re-drive."""
    async with LogReader(stack.cluster) as reader:
        return {
            (one.partition, one.offset)
            async for _, records in reader.read(plan.ranges)
            for one in records
            if plan.matcher.is_selected(one, fold)
        }


def places(records: Sequence[FakeRecord], *numbers: int) -> set[tuple[int, int]]:
    return {(records[n].partition, records[n].offset) for n in numbers}


async def test_events_offsets_and_unions_of_them(
    stack: Stack, topic: str, connection: Any, database_url: str, logged: list[FakeRecord]
) -> None:
    source = (topic.removeprefix("webhooks."),)
    some = selected(source, event_ids=("evt_3", "evt_7", "evt_none"))
    plan = await planned(stack, connection, some)
    assert await redriven(stack, plan) == places(logged, 3, 7)
    assert plan.records == 2
    assert plan.as_document()["unknown_event_ids"] == ["evt_none"]
    both = selected(source, event_ids=("evt_3", "evt_7"), offsets=(f"{topic}:0:0-1",))
    assert await redriven(stack, await planned(stack, connection, both)) == places(logged, 3)
    types = selected(source, types=("stripe.charge.*", "*.finalized"), from_ms=0)
    assert await redriven(stack, await planned(stack, connection, types)) == places(logged, *range(30, 59))
    union = any_of(some, both, selected(source, dead_letters=True), selected(source, event_ids=("evt_8",)))
    plan = await planned(stack, connection, union)
    assert await redriven(stack, plan) == places(logged, 3, 7, 8, 59)
    await connection.execute("DELETE FROM gen_1.payments")
    entry = await rerun(stack, database_url, connection, union)
    assert (entry["records"], entry["rows_changed"], entry["dead"]) == (4, 3, 1)
    found = await connection.fetch("SELECT payment_intent_id FROM payments ORDER BY 1")
    assert [row[0] for row in found] == ["pi_3", "pi_7", "pi_8"]


@pytest.mark.parametrize("has_rows", [True, False])
async def test_a_key_selects_what_touches_its_row_also_where_the_row_is_missing(
    stack: Stack, topic: str, connection: Any, logged: list[FakeRecord], has_rows: bool
) -> None:
    source = topic.removeprefix("webhooks.")
    if not has_rows:
        await connection.execute("TRUNCATE gen_1.payments, gen_1.invoices")
    customer = selected((source,), keys=(("accounts", source, "cus_1"),))
    theirs = [n for n in range(30) if n % 4 == 1]
    theirs += [30 + n for n in range(15) if n % 4 == 1]
    theirs += [45 + n for n in range(14) if n % 4 == 1]
    assert await redriven(stack, await planned(stack, connection, customer)) == places(logged, *theirs)
    one = selected((source,), keys=(("payments", source, "pi_5"), ("invoices", source, "in_2")))
    assert await redriven(stack, await planned(stack, connection, one)) == places(logged, 5, 35, 47)
    nobody = selected((source,), keys=(("credits", source, "cus_9"),))
    plan = await planned(stack, connection, nobody)
    assert (plan.records, plan.ranges) == (0, [])


async def test_a_window_by_the_providers_time(
    stack: Stack, topic: str, connection: Any, logged: list[FakeRecord]
) -> None:
    source = (topic.removeprefix("webhooks."),)
    window = selected(source, (CREATED + 3) * 1000, (CREATED + 6) * 1000, by="event")
    expected = [3, 4, 5, *range(30, 45), 48, 49, 50]
    assert await redriven(stack, await planned(stack, connection, window)) == places(logged, *expected)


@pytest.fixture
async def dropped(stack: Stack, topic: str, logged: list[FakeRecord]) -> None:
    """The log now starts at offset 4 of partition 0."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=4)})
    finally:
        await admin.close()


@pytest.mark.usefixtures("dropped")
async def test_what_the_log_no_longer_holds_is_said(
    stack: Stack, topic: str, connection: Any, database_url: str, logged: list[FakeRecord]
) -> None:
    source = (topic.removeprefix("webhooks."),)

    async def gone(selection: Selection) -> list[tuple[Range, int, str]]:
        plan = await planned(stack, connection, selection)
        return [(one.part, one.records, one.why) for one in plan.gone]

    assert await gone(everything(topic)) == [(Range(topic, 0, 0, 4), 4, "dropped")]
    assert await gone(everything(topic, types=("stripe.charge.*",))) == []
    assert await gone(selected(source, from_ms=4_000_000_000_000)) == []
    events = selected(source, event_ids=("evt_0", "evt_1", "evt_9"))
    assert await gone(events) == [(Range(topic, 0, 0, 1), 1, "dropped"), (Range(topic, 0, 3, 4), 1, "dropped")]
    assert await redriven(stack, await planned(stack, connection, events)) == places(logged, 1)
    offsets = selected(source, offsets=(f"{topic}:0:2-25",))
    assert await gone(offsets) == [(Range(topic, 0, 2, 4), 2, "dropped"), (Range(topic, 0, 20, 26), 6, "absent")]
    await connection.execute(
        "INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset)"
        " VALUES (1, $1, 0, 1, 3)",
        topic,
    )
    assert (Range(topic, 0, 1, 3), 2, "lost") in await gone(everything(topic))
    entry = await rerun(stack, database_url, connection, events)
    assert (entry["records"], entry["records_gone"], len(entry["gone"])) == (1, 2, 2)
    assert entry["gone"][0] == {"topic": topic, "partition": 0, "first": 0, "last": 0, "records": 1, "why": "dropped"}


async def test_a_topic_that_is_gone_is_said_and_the_others_are_planned(
    stack: Stack, topic: str, connection: Any, logged: list[FakeRecord]
) -> None:
    other = f"{topic}-b"
    await create(stack.servers, other, 1)
    await produce(stack.servers, [record(other, "stripe", payment(100 + n)) for n in range(2)])
    await connection.execute(
        "INSERT INTO redrive.positions (generation, topic, partition, next_offset) VALUES (1, $1, 0, 2)", other
    )
    await delete(stack.servers, [topic])
    sources = (topic.removeprefix("webhooks."), other.removeprefix("webhooks."))
    plan = await planned(stack, connection, selected(sources, from_ms=0))
    assert {(part.topic, part.start, part.end) for part in plan.ranges} == {(other, 0, 2)}
    assert plan.records == 2
    assert {(one.part.topic, one.why) for one in plan.gone} == {(topic, "dropped")}
    assert sum(one.records for one in plan.gone) == len(logged)
    plan = await planned(stack, connection, selected(sources, event_ids=("evt_3", "evt_100")))
    assert [(one.part.topic, one.records, one.why) for one in plan.gone] == [(topic, 1, "dropped")]
