"""Invariant 6: what depends on several facts is computed when read. Design §6, accounts and credits, rule by rule."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processors.fold import Folded, combine, fold_record
from processors.store import Store
from tests.support.records import record, stripe_event

NOW = 1_760_000_000
CUSTOMER = "cus_1"


class NoLetters:
    async def put(self, letters: Any) -> None:
        assert not letters


async def apply(connection: Any, *bodies: bytes) -> None:
    """Fold these events, the last one first: no rule may hang on their order."""
    folded = []
    for number, body in enumerate(reversed(bodies)):
        one = fold_record(record("webhooks.stripe", "stripe", body, number))
        assert isinstance(one, Folded), one
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
    "an open invoice with a failed payment is the first reason": (
        [subscription("sub_1", "unpaid"), invoice("in_1", "open", "payment_failed")], True, "invoice_payment_failed", "unpaid"),
    "a paid invoice freezes nobody": (
        [subscription("sub_1", "active"), invoice("in_1", "open", "payment_failed"), invoice("in_1", "paid", "paid", NOW + 9)],
        False, None, "active"),
    "an open invoice without a failure freezes nobody": ([invoice("in_1", "open", "finalized")], False, None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_an_account_is_frozen_by_the_rules(connection: Any, name: str) -> None:
    bodies, is_frozen, reason, status = CASES[name]
    await apply(connection, *bodies)
    found = await account(connection)
    assert (found["is_frozen"], found["frozen_reason"], found["subscription_status"]) == (is_frozen, reason, status)
    assert (found["frozen_at"] is not None) is is_frozen


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
    import json

    bodies = []
    for number, days in enumerate((1, 29, 31)):
        when = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        data = {"id": f"use_{number}", "customer": CUSTOMER, "credits": 10**number, "source": "stripe"}
        body = json.dumps({"type": "credits.used", "timestamp": when, "data": data}).encode()
        bodies.append(fold_record(record("webhooks.sw", "standardwebhooks", body, number, signed_id=f"msg_{number}")))
    await Store(1, NoLetters())._write(connection, combine([one for one in bodies if isinstance(one, Folded)]))
    row = await connection.fetchrow("SELECT balance, used_30d FROM credits")
    assert tuple(row) == (-111, 11)


async def test_a_repeated_event_shows_its_earliest_location_and_its_best_status(connection: Any) -> None:
    body = purchase("pi_1", 1, 1)
    late, early = record("webhooks.stripe", "stripe", body, 1), record("webhooks.stripe", "stripe", body, 2)
    early.timestamp = late.timestamp - 5
    folded = [fold_record(one) for one in (late, early)]
    await Store(1, NoLetters())._write(connection, combine([one for one in folded if isinstance(one, Folded)]))
    row = await connection.fetchrow("SELECT record_offset, repeats, conflicts, status, error FROM webhook_events")
    assert tuple(row) == (2, 1, 0, "applied", None)
