"""`redrive why`: the records that made a row, in the order of their arrival, and whose word stands."""

import json
from typing import Any

import pytest

from replay.log.reader import LogReader
from replay.prove import why
from replay.prove.why import Explanation, Question, as_document, explain
from schemas.errors import InvalidSelection
from schemas.topics import OPERATOR
from tests.conftest import Stack
from tests.support import corrections
from tests.support.fixtures import of_fixture
from tests.support.folding import fold_live
from tests.support.records import FakeRecord, on_topic, payment, produce, record, stripe_event

NOW_MS = 1_760_000_000_000


def subscription(event: str, created: int, status: str, **data: Any) -> bytes:
    found = {
        "id": "sub_1",
        "object": "subscription",
        "customer": "cus_1",
        "status": status,
        "items": {"data": []},
        **data,
    }
    return stripe_event(event, "customer.subscription.updated", found, created)


def refund(event: str, number: int, amount: int) -> bytes:
    data = {
        "id": "ch_1",
        "object": "charge",
        "payment_intent": f"pi_{number}",
        "amount_refunded": amount,
        "customer": None,
    }
    return stripe_event(event, "charge.refunded", data)


def at(topic: str, body: bytes, seconds: int, partition: int = 0) -> FakeRecord:
    found = record(topic, "stripe", body, partition=partition)
    found.timestamp = NOW_MS + 1000 * seconds
    return found


async def ask(stack: Stack, connection: Any, name: str, *key: str, **narrower: Any) -> Explanation:
    async with LogReader(stack.cluster) as reader:
        question = Question(name, key, **narrower)
        return await explain(connection, reader, question, lambda *_: None)


@pytest.fixture
async def story(stack: Stack, topic: str, connection: Any) -> str:
    """A subscription told three times over two partitions, a payment and its refund; other rows besides."""
    records = [
        at(topic, subscription("evt_2", 200, "past_due"), 5, partition=1),
        at(topic, subscription("evt_1", 100, "active"), 1),
        at(topic, subscription("evt_2", 200, "past_due"), 9),
        at(topic, payment(1), 2),
        at(topic, refund("evt_r", 1, 40), 3, partition=2),
        at(topic, payment(2, customer="cus_2"), 4),
        at(topic, b"junk", 6),
    ]
    await produce(stack.servers, records)
    await fold_live(stack, connection, topic)
    return topic


async def test_a_row_is_told_by_its_records_in_the_order_of_arrival(stack: Stack, story: str, connection: Any) -> None:
    source = story.removeprefix("webhooks.")
    answer = await ask(stack, connection, "subscriptions", source, "sub_1")
    (row,) = as_document(answer, False)["rows"]
    assert row["key"] == {"source": source, "subscription_id": "sub_1"}
    assert [(one["location"], one["event_id"], one["values"]["status"]) for one in row["records"]] == [
        (f"{story}/0/0", "evt_1", "active"),
        (f"{story}/1/0", "evt_2", "past_due"),
        (f"{story}/0/1", "evt_2", "past_due"),
    ]
    assert row["columns"]["status"] == {"value": "past_due", "record": f"{story}/1/0"}
    assert row["records"][0]["won"] == row["records"][2]["won"] == []
    assert "status" in row["records"][1]["won"]
    stored = dict(await connection.fetchrow("SELECT * FROM gen_1.subscriptions"))
    told = dict(zip(stored, answer.histories[0].row or (), strict=True))
    assert told == stored


async def test_a_row_that_was_deleted_by_hand_is_told_all_the_same(stack: Stack, story: str, connection: Any) -> None:
    await connection.execute("DELETE FROM gen_1.payments")
    answer = await ask(stack, connection, "payments", story.removeprefix("webhooks."), "pi_1")
    (history,) = answer.histories
    assert [one.event_id for one in history.contributions] == ["evt_1", "evt_r"]
    assert {name: won.record_id for name, won in history.won.items() if name.startswith("amount")} == {
        "amount": "evt_1",
        "amount_refunded": "evt_r",
    }


async def test_a_window_and_the_live_positions_bound_what_is_read(stack: Stack, story: str, connection: Any) -> None:
    source = story.removeprefix("webhooks.")
    (history,) = (await ask(stack, connection, "subscriptions", source, "sub_1", to_ms=NOW_MS + 5000)).histories
    assert [one.event_id for one in history.contributions] == ["evt_1"]
    (history,) = (await ask(stack, connection, "subscriptions", source, "sub_1", from_ms=NOW_MS + 9000)).histories
    assert [one.record.offset for one in history.contributions] == [1]
    with pytest.raises(InvalidSelection, match=r"nothing was folded of webhooks\.nobody"):
        await ask(stack, connection, "subscriptions", source, "sub_1", sources=("nobody",))
    await produce(stack.servers, [at(story, subscription("evt_9", 900, "canceled"), 20)])
    (history,) = (await ask(stack, connection, "subscriptions", source, "sub_1", sources=(source,))).histories
    assert "evt_9" not in [one.event_id for one in history.contributions], "nobody has folded it yet"


async def test_a_view_over_several_tables_is_told_by_the_facts_beneath(
    stack: Stack, story: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = story.removeprefix("webhooks.")
    answer = await ask(stack, connection, "accounts", source, "cus_1")
    assert [(one.table.name, one.key[1]) for one in answer.histories] == [
        ("payments", "pi_1"),
        ("subscriptions", "sub_1"),
    ]
    # The refund names no customer, and belongs to the payment.
    assert [one.event_id for one in answer.histories[0].contributions] == ["evt_1", "evt_r"]
    assert answer.more == 0
    monkeypatch.setattr(why, "MAX_ROWS", 0)
    answer = await ask(stack, connection, "accounts", source, "cus_1")
    assert (answer.histories, answer.more) == ([], 0)


async def test_what_an_operator_said_of_a_subscription_lies_beneath_its_account(
    stack: Stack, story: str, connection: Any
) -> None:
    """The correction names no customer: its subscription does; or the other way round."""
    source = story.removeprefix("webhooks.")
    said = {
        "c1": corrections.subscription("paused"),
        "c2": corrections.subscription("active", "sub_unseen", customer="cus_1"),
        "c3": corrections.subscription("active", "sub_of_another", customer="cus_2"),
    }
    records = [
        corrections.correction_record(corrections.correction(name, one, source=source)) for name, one in said.items()
    ]
    await produce(stack.servers, records)
    await fold_live(stack, connection, OPERATOR)
    assert (
        await connection.fetchval(
            "SELECT customer_id FROM gen_1.subscription_corrections WHERE subscription_id = 'sub_1'"
        )
        is None
    )
    answer = await ask(stack, connection, "accounts", source, "cus_1")
    assert [(one.table.name, one.key[1]) for one in answer.histories] == [
        ("payments", "pi_1"),
        ("subscription_corrections", "sub_1"),
        ("subscription_corrections", "sub_unseen"),
        ("subscriptions", "sub_1"),
        ("subscriptions", "sub_unseen"),
    ]
    assert answer.histories[1].won["status"].record_id == "correction:c1"


async def test_what_is_personal_is_shown_only_where_it_is_revealed(stack: Stack, topic: str, connection: Any) -> None:
    found = on_topic(of_fixture("whatsapp/message.text.json"), topic, 0)
    await produce(stack.servers, [found])
    await fold_live(stack, connection, topic)
    row = await connection.fetchrow(
        "SELECT source, message_id, sender, body, channel, our_number, peer_number FROM gen_1.messages"
    )
    answer = await ask(stack, connection, "messages", row["source"], row["message_id"])
    hidden, whole = (json.dumps(as_document(answer, shown), ensure_ascii=False) for shown in (False, True))
    for personal in (row["sender"], row["body"], row["message_id"]):
        assert personal not in hidden
        assert personal in whole
    key = (row["source"], row["channel"], row["our_number"], row["peer_number"])
    (history,) = (await ask(stack, connection, "conversations", *key)).histories
    assert history.key == (row["source"], row["message_id"])


def test_a_question_that_names_nothing_is_told_what_would() -> None:
    with pytest.raises(
        InvalidSelection,
        match="accounts, calls, conflicting_usages, contact_preferences, conversations, credit_entries",
    ):
        Question("nothing", ("a",))
    with pytest.raises(InvalidSelection, match="the key of accounts is: source customer_id"):
        Question("accounts", ("stripe",))
    with pytest.raises(InvalidSelection, match="can't be stored"):
        Question("accounts", ("stripe", "a\0b"))
