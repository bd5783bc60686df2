"""Invariant 6: what depends on several facts is computed when read. Design §6, accounts and credits, rule by rule."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processors.fold import combine, dead_record, fold_record
from processors.outcome import Folded
from processors.store import Store
from schemas.errors import PoisonRecord
from tests.support.folding import NoLetters
from tests.support.records import record, stripe_event

NOW = 1_760_000_000
CUSTOMER = "cus_1"


async def apply(connection: Any, *bodies: bytes) -> None:
    """Fold these events, the last one first: no rule may hang on their order."""
    folded = []
    for number, body in enumerate(reversed(bodies)):
        one = fold_record(record("webhooks.stripe", "stripe", body, number))
        assert not one.letters, one
        folded.append(one)
    await Store(1, NoLetters())._write(connection, combine(folded))


def subscription(name: str, status: str, created: int = NOW, kind: str = "updated", number: int = 0) -> bytes:
    data = {"id": name, "customer": CUSTOMER, "status": status, "items": {"data": [{"price": {"id": "price_1"}}]}}
    return stripe_event(f"evt_{name}_{created}_{number}", f"customer.subscription.{kind}", data, created)


def invoice(name: str, status: str, kind: str, created: int = NOW) -> bytes:
    data = {"id": name, "customer": CUSTOMER, "status": status, "amount_due": 5, "amount_paid": 0}
    return stripe_event(f"evt_{name}_{kind}", f"invoice.{kind}", data, created)


async def account(connection: Any) -> dict[str, Any]:
    row = await connection.fetchrow("SELECT * FROM accounts WHERE customer_id = $1", CUSTOMER)
    return dict(row)


Case = tuple[list[bytes], bool, str | None, str | None]
CASES: dict[str, Case] = {
    "active": ([subscription("sub_1", "active")], False, None, "active"),
    "unpaid freezes": ([subscription("sub_1", "unpaid")], True, "subscription_unpaid", "unpaid"),
    "canceled freezes when none is left": ([subscription("sub_1", "canceled")], True, "subscription_canceled", "canceled"),
    "incomplete_expired is none left, but no freeze": (
        [subscription("sub_1", "incomplete_expired")], False, None, "incomplete_expired"),
    "an active one counts before a later canceled one": (
        [subscription("sub_1", "active", NOW), subscription("sub_2", "canceled", NOW + 50)], False, None, "active"),
    "one unpaid among those that count freezes": (
        [subscription("sub_1", "active", NOW + 50), subscription("sub_2", "unpaid", NOW)], True, "subscription_unpaid", "active"),
    "of those that are left out the latest stands": (
        [subscription("sub_1", "canceled", NOW), subscription("sub_2", "incomplete_expired", NOW + 1)], False, None, "incomplete_expired"),
    "one that expired incomplete does not count before a later canceled one": (
        [subscription("sub_1", "incomplete_expired", NOW), subscription("sub_2", "canceled", NOW + 1)],
        True, "subscription_canceled", "canceled"),
    "an open invoice with a failed payment is the first reason": (
        [subscription("sub_1", "unpaid"), invoice("in_1", "open", "payment_failed")], True, "invoice_payment_failed", "unpaid"),
    "a paid invoice freezes nobody": (
        [subscription("sub_1", "active"), invoice("in_1", "open", "payment_failed"), invoice("in_1", "paid", "paid", NOW + 9)],
        False, None, "active"),
    "an open invoice without a failure freezes nobody": ([invoice("in_1", "open", "finalized")], False, None, None),
    "an open invoice with a failed payment freezes without a subscription": (
        [invoice("in_1", "open", "payment_failed")], True, "invoice_payment_failed", None),
    "an open invoice with a failed payment comes before a canceled subscription": (
        [subscription("sub_1", "canceled"), invoice("in_1", "open", "payment_failed")], True, "invoice_payment_failed", "canceled"),
    "an invoice that is given up freezes nobody": (
        [invoice("in_1", "open", "payment_failed"), invoice("in_1", "uncollectible", "marked_uncollectible", NOW + 9),
         invoice("in_2", "open", "payment_failed"), invoice("in_2", "void", "voided", NOW + 9)], False, None, None),
    "one failing invoice among paid ones freezes": (
        [invoice("in_1", "paid", "paid"), invoice("in_2", "open", "payment_failed")], True, "invoice_payment_failed", None),
    "past due freezes nobody": ([subscription("sub_1", "past_due")], False, None, "past_due"),
    "an incomplete one counts": (
        [subscription("sub_1", "incomplete"), subscription("sub_2", "canceled", NOW + 9)], False, None, "incomplete"),
    "of those that are left out at one second the greater event id stands": (
        [subscription("sub_1", "canceled"), subscription("sub_2", "incomplete_expired")],
        False, None, "incomplete_expired"),
    "one that counts again unfreezes": (
        [subscription("sub_1", "unpaid"), subscription("sub_1", "active", NOW + 1)], False, None, "active"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_an_account_is_frozen_by_the_rules(connection: Any, name: str) -> None:
    bodies, is_frozen, reason, status = CASES[name]
    await apply(connection, *bodies)
    found = await account(connection)
    assert (found["is_frozen"], found["frozen_reason"], found["subscription_status"]) == (is_frozen, reason, status)
    assert (found["frozen_at"] is not None) is is_frozen


def usage(name: str, credits: int = 3, when: str = "2025-10-09T08:53:20Z") -> bytes:
    data = {"id": name, "customer": CUSTOMER, "credits": credits, "source": "stripe"}
    return json.dumps({"type": "credits.used", "timestamp": when, "data": data}).encode()


async def apply_usage(connection: Any, *bodies: bytes) -> None:
    records = [
        record("webhooks.sw", "standardwebhooks", body, number, signed_id=f"msg_{number}")
        for number, body in enumerate(bodies)
    ]
    folded = [fold_record(one) for one in records]
    assert not any(one.letters for one in folded)
    await Store(1, NoLetters())._write(connection, combine(folded))


CONFLICTS: dict[str, tuple[list[tuple[str, int, str]], str | None]] = {
    "told twice": ([("sw", 3, "2026-01-01"), ("sw", 3, "2026-01-01")], None),
    "two senders": ([("sw", 3, "2026-01-01"), ("metering", 3, "2026-01-01")], "several_senders"),
    "two amounts": ([("sw", 3, "2026-01-01"), ("sw", 4, "2026-01-01")], "several_contents"),
    "two times": ([("sw", 3, "2026-01-02"), ("sw", 3, "2026-01-01")], "several_contents"),
    "all of it": ([("sw", 3, "2026-01-02"), ("metering", 4, "2026-01-01")], "several_senders, several_contents"),
}


@pytest.mark.parametrize("name", CONFLICTS)
async def test_usages_that_share_an_id_are_listed_unless_they_are_the_same(connection: Any, name: str) -> None:
    usages, problem = CONFLICTS[name]
    for number, (sender, credits, day) in enumerate(usages):
        body = usage("1", credits, f"{day}T00:00:00Z")
        one = record(f"webhooks.{sender}", "standardwebhooks", body, signed_id=f"msg_{number}")
        await Store(1, NoLetters())._write(connection, combine([fold_record(one)]))
    found = await connection.fetch("SELECT source, entry_id, credits, problem FROM conflicting_usages")
    latest = max(usages, key=lambda one: (one[2], usages.index(one)))
    assert [tuple(row) for row in found] == ([("stripe", "1", -latest[1], problem)] if problem else [])


async def test_every_customer_who_was_seen_has_an_account(connection: Any) -> None:
    """Also one of whom only a refund, or only the use of credits, is known."""
    assert await connection.fetchval("SELECT count(*) FROM accounts") == 0
    await apply(connection, refund("pi_1", 100))
    found = await account(connection)
    assert (found["is_frozen"], found["subscription_id"], found["credit_balance"]) == (False, None, 0)
    assert await connection.fetchval("SELECT count(*) FROM credits") == 0, "a row only for a customer with an entry"
    await connection.execute("TRUNCATE gen_1.payments")
    await apply_usage(connection, usage("use_1"))
    assert (await account(connection))["credit_balance"] == -3, "it may go negative"


async def test_customers_of_two_sources_are_two(connection: Any) -> None:
    await apply(connection, subscription("sub_1", "active"))
    other = fold_record(record("webhooks.stripe-2", "stripe", subscription("sub_2", "unpaid")))
    assert not other.letters
    await Store(1, NoLetters())._write(connection, combine([other]))
    rows = await connection.fetch("SELECT source, is_frozen, subscription_id FROM accounts ORDER BY source")
    assert [tuple(row) for row in rows] == [("stripe", False, "sub_1"), ("stripe-2", True, "sub_2")]


async def test_within_one_second_deleted_beats_updated_beats_created(connection: Any) -> None:
    await apply(
        connection,
        subscription("sub_1", "canceled", kind="deleted", number=1),
        subscription("sub_1", "active", kind="updated", number=2),
        subscription("sub_1", "incomplete", kind="created", number=9),
    )
    assert await connection.fetchval("SELECT status FROM subscriptions") == "canceled"


async def test_a_checkout_names_the_subscriptions_owner_and_makes_no_state(connection: Any) -> None:
    session = {
        "id": "cs_1",
        "mode": "subscription",
        "subscription": "sub_1",
        "customer": CUSTOMER,
        "client_reference_id": "ten_1",
    }
    checkout = stripe_event("evt_cs", "checkout.session.completed", session, NOW + 100)
    await apply(connection, checkout)
    assert await connection.fetchval("SELECT count(*) FROM subscriptions") == 0
    await apply(connection, subscription("sub_1", "active"))
    row = await connection.fetchrow("SELECT status, client_reference_id, event_created FROM subscriptions")
    assert tuple(row) == ("active", "ten_1", datetime.fromtimestamp(NOW, UTC))


async def test_the_tier_is_the_prices_name(connection: Any) -> None:
    from deploy.migrate import store_price_tiers

    await apply(connection, subscription("sub_1", "active"))
    assert (await account(connection))["subscription_tier"] is None
    await store_price_tiers(connection, {"price_1": "pro", "price_2": "free"})
    assert (await account(connection))["subscription_tier"] == "pro"
    await store_price_tiers(connection, {})
    assert (await account(connection))["subscription_tier"] is None


def purchase(name: str, credits: int, amount: int, created: int = NOW) -> bytes:
    data = {
        "id": name,
        "customer": CUSTOMER,
        "status": "succeeded",
        "amount": amount,
        "metadata": {"type": "credit_purchase", "credits": str(credits)},
    }
    return stripe_event(f"evt_{name}", "payment_intent.succeeded", data, created)


def refund(name: str, refunded: int, number: int = 0) -> bytes:
    data = {"id": "ch_1", "customer": CUSTOMER, "payment_intent": name, "amount_refunded": refunded}
    return stripe_event(f"evt_refund_{name}_{number}", "charge.refunded", data, NOW + number)


async def test_a_payment_of_one_second_has_succeeded_whatever_its_events_are_called(connection: Any) -> None:
    intent = {"id": "pi_1", "customer": CUSTOMER, "amount": 5, "metadata": {}}
    states = {
        "succeeded": "succeeded",
        "created": "requires_payment_method",
        "payment_failed": "requires_payment_method",
    }
    await apply(
        connection,
        *(
            stripe_event(f"evt_{number}", f"payment_intent.{verb}", {**intent, "status": status}, NOW)
            for number, (verb, status) in enumerate(states.items())
        ),
    )
    assert await connection.fetchval("SELECT status FROM payments") == "succeeded"


async def test_a_refund_before_its_purchase_shows_nothing_until_the_purchase_is_seen(connection: Any) -> None:
    await apply(connection, refund("pi_1", 1000))
    assert await connection.fetchval("SELECT count(*) FROM credit_entries") == 0
    await apply(connection, purchase("pi_1", 500, 2500))
    row = await connection.fetchrow("SELECT credits, credits_refunded FROM credit_entries")
    assert tuple(row) == (500, 200)


@pytest.mark.parametrize(
    ("credits", "amount", "refunded", "returned"),
    [(10, 3, 1, 3), (10, 3, 2, 6), (10, 3, 3, 10), (2**40, 2**40, 2**39, 2**39)],
)
async def test_refunded_credits_are_the_share_rounded_down(
    connection: Any, credits: int, amount: int, refunded: int, returned: int
) -> None:
    await apply(connection, purchase("pi_1", credits, amount), refund("pi_1", 1), refund("pi_1", refunded, 1))
    assert await connection.fetchval("SELECT credits_refunded FROM credit_entries") == returned
    assert (await account(connection))["credit_balance"] == credits - returned


async def test_usage_counts_for_thirty_days(connection: Any) -> None:
    times = [(datetime.now(UTC) - timedelta(days=days)).isoformat() for days in (1, 29, 31)]
    await apply_usage(connection, *(usage(f"use_{n}", 10**n, when) for n, when in enumerate(times)))
    row = await connection.fetchrow("SELECT balance, used_30d FROM credits")
    assert tuple(row) == (-111, 11)


async def test_what_was_used_counts_once_however_many_events_tell_it(connection: Any) -> None:
    await apply_usage(connection, usage("use_1"), usage("use_1"), usage("use_2"))
    assert await connection.fetchval("SELECT balance FROM credits") == -6


async def test_a_repeated_event_shows_its_earliest_location_and_its_best_status(connection: Any) -> None:
    body = purchase("pi_1", 1, 1)
    late, early = record("webhooks.stripe", "stripe", body, 1), record("webhooks.stripe", "stripe", body, 2)
    early.timestamp = late.timestamp - 5
    folded = [fold_record(one) for one in (late, early)]
    await Store(1, NoLetters())._write(connection, combine(folded))
    row = await connection.fetchrow("SELECT record_offset, repeats, conflicts, status, error FROM webhook_events")
    assert tuple(row) == (2, 1, 0, "applied", None)


async def test_a_dead_copy_does_not_hide_the_one_that_was_applied(connection: Any) -> None:
    raw, copy = (record("webhooks.stripe", "stripe", purchase("pi_1", 1, 1), number) for number in (1, 2))
    dead, folded = dead_record(raw, PoisonRecord("refused_by_database", "x")), fold_record(copy)
    assert not folded.letters
    assert dead.event.event_id == folded.events[0].event_id
    await Store(1, NoLetters())._write(connection, combine([folded, Folded(raw, "stripe", (), (), (dead,))]))
    row = await connection.fetchrow("SELECT record_offset, repeats, status, error FROM webhook_events")
    assert tuple(row) == (1, 1, "applied", None)
