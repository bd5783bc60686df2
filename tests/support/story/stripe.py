"""Customers who subscribe, pay, buy credits, get some back, and use them (Standard Webhooks)."""

import json

from tests.support import signing
from tests.support.story.base import Author, Row, Webhook, at
from tests.support.story.stripe_payments import event, purchase

ENDINGS: tuple[list[str], ...] = (
    [],
    [],
    ["paid"],
    ["paid"],
    ["void"],
    ["uncollectible"],
    ["uncollectible", "paid"],
    ["uncollectible", "void"],
)
GIVEN_UP = {"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}


def tell(author: Author) -> None:
    customer, now = author.name("cus_"), author.moment()
    balance, frozen = 0, None
    subscription, status, period_end = _subscription(author, customer, now)
    has_failed_invoice = _invoice(author, customer, now + 50)
    for _ in range(author.random.randrange(3)):
        balance += purchase(author, customer, now + 1000)
    for _ in range(author.random.randrange(4)):
        balance -= _usage(author, customer, now + 2000)
    if has_failed_invoice:
        frozen = "invoice_payment_failed"
    elif status == "unpaid":
        frozen = "subscription_unpaid"
    elif status == "canceled":
        frozen = "subscription_canceled"
    author.world.expect(
        "accounts",
        ("stripe", customer),
        is_frozen=frozen is not None,
        frozen_reason=frozen,
        subscription_id=subscription,
        subscription_status=status,
        subscription_tier=None,
        current_period_end=at(period_end),
        credit_balance=balance,
    )


def _subscription(author: Author, customer: str, now: int) -> tuple[str, str, int]:
    """Its life in order; several changes may share a second, and then the later one has the greater id.

    Returns its id, its last status and the end of its period.
    """
    subscription = author.name("sub_")
    life = ["incomplete", "active", *author.random.choice([[], ["past_due"], ["past_due", "unpaid"], ["active"]])]
    is_deleted = author.random.random() < 0.3
    if is_deleted:
        life.append("canceled")
    is_new_shape, has_add_on = author.random.random() < 0.5, author.random.random() < 0.3
    for step, status in enumerate(life):
        if author.random.random() < 0.6:
            now += author.random.randrange(1, 1000)
        kind = "created" if step == 0 else "deleted" if status == "canceled" else "updated"
        period_end = now + 2_592_000
        item: Row = {"price": {"id": "price_pro"}}
        add_on: Row = {"price": {"id": "price_add_on"}}
        state: Row = {
            "id": subscription,
            "object": "subscription",
            "customer": customer,
            "status": status,
            "cancel_at_period_end": is_deleted,
            "items": {"data": [item, add_on] if has_add_on else [item]},
        }
        (item if is_new_shape else state)["current_period_end"] = period_end
        if is_new_shape:
            add_on["current_period_end"] = period_end + 31_536_000
        event_id = event(author, f"customer.subscription.{kind}", now, state)
    reference = author.name("ten_") if author.random.random() < 0.5 else None
    if reference:
        # It says whose the subscription is, and comes after all else: its own state would be the latest.
        session: Row = {
            "id": author.name("cs_"),
            "object": "checkout.session",
            "mode": "subscription",
            "customer": customer,
            "client_reference_id": reference,
            "subscription": subscription,
            "payment_intent": None,
            "payment_status": "paid",
            "metadata": {},
        }
        event(author, "checkout.session.completed", now + 1, session)
    author.world.expect(
        "subscriptions",
        ("stripe", subscription),
        customer_id=customer,
        client_reference_id=reference,
        status=life[-1],
        price_id="price_pro",
        current_period_end=at(period_end),
        cancel_at_period_end=is_deleted,
        event_created=at(now),
        event_id=event_id,
    )
    return subscription, life[-1], period_end


def _invoice(author: Author, customer: str, now: int) -> bool:
    """Returns whether it is left open with a failed payment."""
    invoice, due = author.name("in_"), author.random.randrange(100, 10_000)
    failures, ending = author.random.randrange(3), author.random.choice(ENDINGS)
    is_paid, status = "paid" in ending, ending[-1] if ending else "open"
    bill: Row = {
        "id": invoice,
        "object": "invoice",
        "customer": customer,
        "amount_due": due,
        "amount_paid": 0,
        "currency": "eur",
        "attempt_count": 0,
        "created": now,
        "status": "draft",
        "status_transitions": {"paid_at": None},
    }
    event(author, "invoice.created", now, bill)
    bill = {**bill, "status": "open"}
    event(author, "invoice.finalized", now + 1, bill)
    if author.random.random() < 0.5:
        # Within the second of another state: the greater id says the amount.
        due += 1 - 2 * author.random.randrange(2)
        bill["amount_due"] = due
        event(author, "invoice.updated", now + 1, bill)
    failed_at = None
    for attempt in range(1, failures + 1):
        failed_at = now + 10 * attempt
        event(author, "invoice.payment_failed", failed_at, {**bill, "attempt_count": attempt})
    for given_up in ending:
        if given_up != "paid":
            left = {**bill, "status": given_up, "attempt_count": failures}
            event(author, GIVEN_UP[given_up], now + 500, left)
    paid_at = now + 1000 if is_paid else None
    if is_paid:
        paid = {
            **bill,
            "status": "paid",
            "amount_paid": due,
            "attempt_count": failures + 1,
            "status_transitions": {"paid_at": paid_at},
        }
        event(author, "invoice.paid", now + 1001, paid)
        event(author, "invoice.payment_succeeded", now + 1001, paid)
    author.world.expect(
        "invoices",
        ("stripe", invoice),
        customer_id=customer,
        subscription_id=None,
        status=status,
        amount_due=due,
        amount_paid=due if is_paid else 0,
        currency="eur",
        attempt_count=failures + 1 if is_paid else failures,
        created_at=at(now),
        last_failed_at=at(failed_at) if failed_at else None,
        paid_at=at(paid_at) if paid_at else None,
    )
    return failures > 0 and status == "open"


def _usage(author: Author, customer: str, now: int) -> int:
    entry, used = author.name("use_"), author.random.randrange(1, 40)
    when = at(now).isoformat().replace("+00:00", "Z")
    data = {"id": entry, "customer": customer, "credits": used, "source": author.stripe}
    body = json.dumps({"type": "credits.used", "timestamp": when, "data": data}).encode()
    # The entry's id counts, not the message's: what is told in two messages is used once.
    for message_id in [author.name("msg_") for _ in range(author.random.choice([1, 1, 1, 2]))]:
        _message(author, message_id, body)
    author.world.expect(
        "credit_entries",
        ("stripe", entry),
        kind="usage",
        customer_id=customer,
        credits=-used,
        credits_refunded=0,
        occurred_at=at(now),
        reason=None,
    )
    return used


def _message(author: Author, message_id: str, body: bytes) -> None:
    webhook = Webhook("/webhooks/standardwebhooks", body, lambda _, b, now: signing.standard(message_id, b, now))
    author.tells(webhook, "standardwebhooks", message_id)
