"""The semantic diff: what differs between the read models of two sets of facts, and what that amounts to."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from replay.tables.diff import Diff, Sum, Transition, ViewDiff, difference
from replay.tables.read_models import create_facts, tables_behind
from schemas.facts import TABLES, VIEWS_OVER_SEVERAL

OTHER = "other"
NO_VIEW = {"webhook_events", "crm_properties", "account_corrections", "subscription_corrections"}
"""Tables without a read model of their own, and the index of the log."""


@pytest.fixture
async def facts(connection: Any) -> Any:
    """Two empty sets of facts: the live generation, and another."""
    await create_facts(connection, OTHER)
    return connection


async def put(connection: Any, table: str, **row: Any) -> None:
    """The same row into both."""
    for schema in ("gen_1", OTHER):
        await insert(connection, schema, table, **row)


async def insert(connection: Any, schema: str, table: str, **row: Any) -> None:
    names, values = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO {schema}.{table} ({names}) VALUES ({values})", *row.values())


async def compared(connection: Any, limit: int = 5) -> Diff:
    before = await relations(connection)
    found = await difference(connection, "gen_1", OTHER, limit)
    assert await relations(connection) == before, "nothing stays"
    return found


async def relations(connection: Any) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM pg_class"))


def differing(diff: Diff) -> dict[str, ViewDiff]:
    return {name: view for name, view in diff.views.items() if view.rows}


async def test_equal_facts_have_no_difference(facts: Any) -> None:
    await put(facts, "payments", source="stripe", payment_intent_id="pi_1", customer_id="cus_1", amount=100)
    await put(facts, "messages", source="twilio", message_id="SM1", our_number="+1", peer_number="+2")
    found = await compared(facts)
    assert found.is_equal
    assert list(found.views) == list(tables_behind())
    assert found.as_document()["views"]["payments"] == {
        "added": 0,
        "removed": 0,
        "changed": 0,
        "columns": {},
        "transitions": [],
        "sums": [],
        "samples": [],
    }


async def test_a_status_that_changes_is_a_transition(facts: Any) -> None:
    said = {"source": "stripe", "event_id": "evt_1", "event_created": datetime(2026, 3, 1, tzinfo=UTC)}
    for number in range(4):
        row = {**said, "subscription_id": f"sub_{number}", "customer_id": f"cus_{number}"}
        await insert(facts, "gen_1", "subscriptions", **row, status="active")
        await insert(facts, OTHER, "subscriptions", **row, status="active" if number == 3 else "unpaid")
    found = differing(await compared(facts, limit=2))
    assert set(found) == {"subscriptions", "accounts"}
    subscriptions, accounts = found["subscriptions"], found["accounts"]
    assert (subscriptions.added, subscriptions.removed, subscriptions.changed) == (0, 0, 3)
    assert subscriptions.columns == {"status": 3}
    assert subscriptions.transitions == [Transition("status", "active", "unpaid", 3)]
    assert subscriptions.samples == [
        {
            "key": {"source": "stripe", "subscription_id": f"sub_{number}"},
            "before": {"status": "active"},
            "after": {"status": "unpaid"},
        }
        for number in (0, 1)
    ]
    assert accounts.transitions == [Transition("is_frozen", "false", "true", 3)]
    assert accounts.columns == {"is_frozen": 3, "frozen_reason": 3, "frozen_at": 3, "subscription_status": 3}


async def test_money_is_summed_by_currency_and_credits_as_they_are(facts: Any) -> None:
    paid = {"source": "stripe", "customer_id": "cus_1", "status": "succeeded"}
    await put(facts, "payments", **paid, payment_intent_id="pi_same", amount=7, currency="usd")
    await insert(facts, OTHER, "payments", **paid, payment_intent_id="pi_1", amount=500, currency="eur")
    await insert(facts, "gen_1", "payments", **paid, payment_intent_id="pi_2", amount=300, currency="usd")
    await insert(facts, OTHER, "payments", **paid, payment_intent_id="pi_2", amount=300, amount_refunded=100)
    entry = {"source": "stripe", "customer_id": "cus_1", "kind": "purchase", "amount": 300}
    await put(facts, "credit_entries", **entry, entry_id="pi_2", credits=30)
    await insert(facts, OTHER, "credit_entries", **entry, entry_id="pi_1", credits=400)
    found = differing(await compared(facts))
    assert set(found) == {"payments", "credit_entries", "credits", "accounts"}
    assert (found["payments"].added, found["payments"].changed) == (1, 1)
    assert found["payments"].transitions == [Transition("status", None, "succeeded", 1)]
    assert set(found["payments"].sums) == {
        Sum("amount", "eur", Decimal(500)),
        Sum("amount", "usd", Decimal(-300)),
        Sum("amount", None, Decimal(300)),
        Sum("amount_refunded", None, Decimal(100)),
    }
    assert found["credit_entries"].sums == [
        Sum("credits", None, Decimal(400)),
        Sum("credits_refunded", None, Decimal(10)),
    ]
    assert found["credits"].sums == [Sum("balance", None, Decimal(390))]
    assert found["accounts"].sums == [Sum("credit_balance", None, Decimal(390))]


async def test_rows_that_are_gone_are_removed(facts: Any) -> None:
    await insert(facts, "gen_1", "calls", source="twilio", call_id="CA1", status="completed", duration_seconds=30)
    call = differing(await compared(facts))["calls"]
    assert (call.added, call.removed, call.changed) == (0, 1, 0)
    assert call.transitions == [Transition("status", "completed", None, 1)]
    assert [(one.column, one.delta) for one in call.sums] == [("duration_seconds", Decimal(-30))]
    assert call.samples[0]["after"] is None
    assert call.samples[0]["before"]["status"] == "completed"


async def test_a_conversation_without_a_channel_is_one_conversation(facts: Any) -> None:
    """NULL equals nothing, and a key that holds one would make of one row one removed and one added."""
    talk = {"source": "twilio", "our_number": "+15550001", "peer_number": "+15550002", "direction": "inbound"}
    await put(facts, "messages", **talk, message_id="SM1")
    await insert(facts, OTHER, "messages", **talk, message_id="SM2", body="a secret", is_opt_out=True)
    found = differing(await compared(facts))
    conversations, messages = found["conversations"], found["messages"]
    assert (conversations.added, conversations.removed, conversations.changed) == (0, 0, 1)
    assert conversations.columns == {"inbound": 1}
    assert conversations.sums == [Sum("inbound", None, Decimal(1))]
    assert messages.transitions == [Transition("is_opt_out", None, "true", 1)]
    assert "secret" not in str(found)
    assert "5550002" not in str(found)


async def test_a_property_that_changes_shows_in_its_object(facts: Any) -> None:
    at = {"source": "hubspot", "portal_id": "1", "object_type": "contact", "object_id": "7"}
    await put(facts, "crm_objects", **at)
    await insert(facts, "gen_1", "crm_properties", **at, name="city", value="Lyon")
    await insert(facts, OTHER, "crm_properties", **at, name="city", value="Paris")
    objects = differing(await compared(facts))["crm_objects"]
    assert (objects.changed, objects.columns) == (1, {"properties": 1})
    assert "Paris" not in str(objects.samples)


async def test_tables_that_cannot_differ_are_not_compared(facts: Any) -> None:
    await insert(facts, OTHER, "payments", source="stripe", payment_intent_id="pi_1")
    await insert(facts, OTHER, "calls", source="twilio", call_id="CA1")
    found = await difference(facts, "gen_1", OTHER, tables={"calls"})
    assert list(differing(found)) == ["calls"]


async def test_a_comparison_sees_what_the_transaction_around_it_sees(facts: Any) -> None:
    async with facts.transaction():
        await insert(facts, OTHER, "payments", source="stripe", payment_intent_id="pi_1", customer_id="cus_1")
        assert list(differing(await compared(facts))) == ["payments", "accounts"]
    assert await facts.fetchval(f"SELECT count(*) FROM {OTHER}.payments") == 1


def test_every_read_model_says_which_tables_are_behind_it() -> None:
    behind = tables_behind()
    named = {table.name for table in TABLES}
    assert set(behind) == (named | set(VIEWS_OVER_SEVERAL)) - NO_VIEW
    assert frozenset().union(*behind.values()) == named, "every table shows in some read model"
    assert behind["credits"] == {"credit_entries", "payments", "refunds", "disputes"}
    assert behind["accounts"] >= behind["subscriptions"] | behind["credits"] | {"invoices"}
    assert behind["crm_objects"] == {"crm_objects", "crm_properties"}
