"""Samples of Stripe."""

import time
from collections.abc import Iterator
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample, token


def samples(customer: str) -> Iterator[Sample]:
    """One customer: subscribes, pays, buys credits, gets a part of them back."""
    now = int(time.time())
    subscription, invoice, payment = f"sub_{token()}", f"in_{token()}", f"pi_{token()}"
    state = {
        "id": subscription,
        "object": "subscription",
        "customer": customer,
        "status": "active",
        "cancel_at_period_end": False,
        "items": {"data": [{"price": {"id": "price_pro_monthly"}, "current_period_end": now + 30 * 86_400}]},
    }
    yield _event("customer.subscription.created", {**state, "status": "incomplete"}, now)
    yield _event("customer.subscription.updated", state, now)
    bill = {
        "id": invoice,
        "object": "invoice",
        "customer": customer,
        "amount_due": 4900,
        "amount_paid": 4900,
        "currency": "eur",
        "status": "paid",
        "attempt_count": 1,
        "created": now,
        "parent": {"subscription_details": {"subscription": subscription}},
        "status_transitions": {"paid_at": now + 1},
    }
    yield _event("invoice.payment_succeeded", bill, now + 1)
    purchase = {"type": "credit_purchase", "credits": "500"}
    intent = {
        "id": payment,
        "object": "payment_intent",
        "amount": 2500,
        "currency": "eur",
        "customer": customer,
        "status": "succeeded",
        "metadata": purchase,
    }
    yield _event("payment_intent.succeeded", intent, now + 2)
    charge = {
        "id": f"ch_{token()}",
        "object": "charge",
        "customer": customer,
        "payment_intent": payment,
        "amount": 2500,
        "amount_refunded": 500,
        "currency": "eur",
    }
    yield _event("charge.refunded", charge, now + 3)


def _event(kind: str, data: dict[str, Any], created: int) -> Sample:
    event = {
        "id": f"evt_{token(24)}",
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": created,
        "data": {"object": data},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    return Sample(orjson.dumps(event, option=orjson.OPT_INDENT_2), JSON)
