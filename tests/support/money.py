"""Stripe's events of one purchase: its intent, session, charge, refunds and disputes."""

import json
from typing import Any
from zlib import crc32

from tests.support.cases import NOW, webhook
from tests.support.story import Webhook

CUSTOMER, INTENT, CHARGE = "cus_1", "pi_1", "ch_1"
BOUGHT = {"type": "credit_purchase", "credits": "100"}
Told = list[Webhook]


def event(kind: str, second: int = 0, /, **data: Any) -> Webhook:
    body = {
        "id": f"evt_{crc32(repr((kind, second, data)).encode())}",
        "object": "event",
        "created": NOW + second,
        "type": kind,
        "data": {"object": data},
    }
    return webhook("stripe", json.dumps(body).encode())


def intent(second: int = 0, /, **data: Any) -> Webhook:
    found = {"id": INTENT, "amount": 1000, "currency": "eur", "customer": CUSTOMER, "metadata": BOUGHT, **data}
    return event("payment_intent.succeeded", second, **{"status": "succeeded", **found})


def session(second: int = 1, /, kind: str = "completed", **data: Any) -> Webhook:
    found = {"id": "cs_1", "payment_intent": INTENT, "amount_total": 1000, "currency": "eur", "customer": CUSTOMER}
    return event(f"checkout.session.{kind}", second, **{**found, "payment_status": "paid", "metadata": BOUGHT, **data})


def charge(refunded: int, second: int = 10, /, kind: str = "refunded", **data: Any) -> Webhook:
    found = {"id": CHARGE, "payment_intent": INTENT, "customer": CUSTOMER, "amount": 1000, "currency": "eur"}
    return event(f"charge.{kind}", second, **{**found, "amount_refunded": refunded, **data})


def refund(name: str, amount: int, status: str, second: int = 20, /, kind: str = "refund.updated") -> Webhook:
    found = {"id": name, "charge": CHARGE, "payment_intent": INTENT, "amount": amount, "currency": "eur"}
    return event(kind, second, **{**found, "status": status})


def dispute(status: str, second: int = 30, /, kind: str = "closed", amount: int = 1000) -> Webhook:
    found = {"id": "dp_1", "charge": CHARGE, "payment_intent": INTENT, "amount": amount, "currency": "eur"}
    return event(f"charge.dispute.{kind}", second, **{**found, "status": status})
