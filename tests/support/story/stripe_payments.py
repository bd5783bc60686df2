"""Payments: of credits or of something else, captured in part, refunded in parts that may fail, disputed."""

import json
from dataclasses import dataclass

from tests.support import signing
from tests.support.story.base import Author, Row, Webhook, at

WAYS = ("objects", "list", "charge", "failure alone")
"""Who tells of refunds: their own events, the list of `charge.refunded`, the charge's figure alone, or the figure and
the event of the one that failed last.
"""


def event(author: Author, kind: str, created: int, data: Row) -> str:
    event_id = author.name("evt_")
    body = {
        "id": event_id,
        "object": "event",
        "created": created,
        "type": kind,
        "livemode": False,
        "pending_webhooks": 1,
        "data": {"object": data},
    }
    webhook = Webhook("/webhooks/stripe", json.dumps(body, indent=2).encode(), lambda _, b, now: signing.stripe(b, now))
    author.tells(webhook, "stripe", event_id)
    return event_id


@dataclass
class Purchase:
    """What happens to one payment intent, and who says what of it."""

    payment: str
    customer: str
    amount: int
    captured: int
    credits: int
    purpose: str | None
    metadata: Row
    named_by: str
    """Whose metadata names it: `intent`, `session`, or `both`."""
    owned_by: str
    """Who names the customer: `both`, the `session`, or nobody (a `guest`)."""

    @property
    def intent(self) -> Row:
        return {
            "id": self.payment,
            "object": "payment_intent",
            "amount": self.amount,
            "currency": "eur",
            "customer": self.customer if self.owned_by == "both" else None,
            "metadata": {} if self.named_by == "session" else self.metadata,
            "last_payment_error": None,
        }

    def session(self, reference: str) -> Row:
        return {
            "id": f"cs_{self.payment}",
            "object": "checkout.session",
            "mode": "payment",
            "customer": None if self.owned_by == "guest" else self.customer,
            "client_reference_id": reference,
            "payment_intent": self.payment,
            "payment_status": "paid",
            "amount_total": self.amount,
            "currency": "eur",
            "metadata": {} if self.named_by == "intent" else self.metadata,
        }


def purchase(author: Author, customer: str, now: int) -> int:
    """At the first try, at the second, or not. Returns the net credits."""
    bought, reference = _imagined(author, customer), author.name("ten_")
    event(author, "payment_intent.created", now, {**bought.intent, "status": "requires_payment_method"})
    tries = author.random.choice([["succeeded"], ["succeeded"], ["failed", "succeeded"], ["failed"]])
    is_paid, paid_at = tries[-1] == "succeeded", now + 10 * (len(tries) - 1)
    if "failed" in tries:
        failed = {"status": "requires_payment_method", "last_payment_error": {"code": "card_declined"}}
        event(author, "payment_intent.payment_failed", now, {**bought.intent, **failed})
    refunded = lost = None
    if is_paid:
        paid = {**bought.intent, "status": "succeeded", "amount_received": bought.captured}
        event(author, "payment_intent.succeeded", paid_at, paid)
        event(author, "checkout.session.completed", paid_at + 1, bought.session(reference))
        refunded = _refunds(author, bought, now + 100)
        lost = _dispute(author, bought, now + 5000)
    is_owned = bought.owned_by == "both" or (is_paid and bought.owned_by == "session")
    author.world.expect(
        "payments",
        ("stripe", bought.payment),
        customer_id=customer if is_owned else None,
        client_reference_id=reference if is_paid else None,
        purpose=bought.purpose if is_paid or bought.named_by != "session" else None,
        status="succeeded" if is_paid else "requires_payment_method",
        amount=bought.amount,
        amount_received=bought.captured if is_paid else None,
        amount_refunded=refunded,
        amount_lost=lost,
        currency="eur",
        failure_code=None if is_paid else "card_declined",
        occurred_at=at(now),
        succeeded_at=at(paid_at) if is_paid else None,
    )
    if not is_paid or bought.purpose != "credit_purchase":
        return 0
    returned = max((refunded or 0) - (bought.amount - bought.captured), 0)
    return _credited(author, bought, paid_at, returned + (lost or 0))


def _imagined(author: Author, customer: str) -> Purchase:
    amount, credits = author.random.randrange(100, 9000), author.random.randrange(1, 900)
    purpose = author.random.choice(["credit_purchase"] * 4 + ["booking", None])
    is_countable = author.random.random() < 0.9
    return Purchase(
        payment=author.name("pi_"),
        customer=customer,
        amount=amount,
        captured=amount if author.random.random() < 0.7 else author.random.randrange(1, amount),
        credits=credits if is_countable else 0,
        purpose=purpose,
        metadata={"type": purpose, "credits": str(credits) if is_countable else "many"} if purpose else {},
        named_by=author.random.choice(["both", "intent", "session"]),
        owned_by=author.random.choice(["both", "both", "both", "session", "guest"]),
    )


def _credited(author: Author, bought: Purchase, paid_at: int, returned: int) -> int:
    """What is in the customer's balance; what is in nobody's stands in a list."""
    problems = [
        problem
        for problem, is_so in (("no_credits", not bought.credits), ("no_customer", bought.owned_by == "guest"))
        if is_so
    ]
    if problems:
        author.world.expect("unassigned_purchases", ("stripe", bought.payment), problem=", ".join(problems))
    if not bought.credits:
        return 0
    given_back = bought.credits * min(returned, bought.captured) // bought.captured
    author.world.expect(
        "credit_entries",
        ("stripe", bought.payment),
        kind="purchase",
        customer_id=None if bought.owned_by == "guest" else bought.customer,
        credits=bought.credits,
        credits_refunded=given_back,
        occurred_at=at(paid_at),
        reason=None,
    )
    return 0 if bought.owned_by == "guest" else bought.credits - given_back


def _refunds(author: Author, bought: Purchase, now: int) -> int | None:
    """In parts, of which some fail in the end; the first is what was never captured.

    Returns what stands, None where nothing was ever refunded.
    """
    way, standing, listed = author.random.choice(WAYS), 0, list[Row]()
    ends = [author.random.choice(["succeeded", "succeeded", "pending", "failed", "canceled"]) for _ in range(3)]
    ends = ends[: author.random.randrange(4)]
    if way == "failure alone":
        ends = [*("succeeded" for _ in ends[1:]), "failed"]
    released = bought.amount - bought.captured
    if released:
        ends = ["succeeded", *ends]
    charge: Row = {
        "id": author.name("ch_"),
        "object": "charge",
        "customer": bought.customer if bought.owned_by == "both" else None,
        "payment_intent": bought.payment,
        "amount": bought.amount,
        "amount_captured": bought.captured,
        "currency": "eur",
    }
    told = 0
    for end in ends:
        if standing == bought.amount:
            break
        is_release, told = bool(released) and not told, told + 1
        part = released if is_release else author.random.randrange(1, bought.amount - standing + 1)
        standing, now = standing + part, now + author.random.choice([0, 10])
        own: Row = {
            "id": author.name("re_"),
            "object": "refund",
            "charge": charge["id"],
            "payment_intent": bought.payment,
            "amount": part,
            "currency": "eur",
            "created": now,
            "status": "succeeded" if end == "succeeded" else "pending",
        }
        listed.append(own)
        lists = {"refunds": {"data": list(listed)}} if way == "list" else {}
        event(author, "charge.refunded", now, {**charge, "amount_refunded": standing, **lists})
        if way == "objects":
            event(author, "refund.created", now, own)
        is_over = end in {"failed", "canceled"}
        if is_over:
            standing, now, own = standing - part, now + 10, {**own, "status": end}
            kind = (
                "charge.refund.updated" if way == "list" else "refund.failed" if end == "failed" else "refund.updated"
            )
            if way != "charge":
                event(author, kind, now, own)
            event(author, "charge.updated", now, {**charge, "amount_refunded": standing})
            now += 10
        if way in {"objects", "list"} or (way == "failure alone" and is_over):
            _expect_refund(author, own)
    return standing if told else None


def _expect_refund(author: Author, own: Row) -> None:
    author.world.expect(
        "refunds",
        ("stripe", own["id"]),
        payment_intent_id=own["payment_intent"],
        charge_id=own["charge"],
        status=own["status"],
        amount=own["amount"],
        currency="eur",
        failure_reason=None,
        occurred_at=at(own["created"]),
    )


def _dispute(author: Author, bought: Purchase, now: int) -> int | None:
    """Returns what is lost by it."""
    if author.random.random() < 0.5:
        return None
    end = author.random.choice(["lost", "won", "under_review"])
    dispute: Row = {
        "id": author.name("dp_"),
        "object": "dispute",
        "payment_intent": bought.payment,
        "charge": f"ch_{bought.payment}",
        "amount": bought.captured,
        "currency": "eur",
        "reason": "fraudulent",
        "created": now,
    }
    event(author, "charge.dispute.created", now, {**dispute, "status": "needs_response"})
    event(author, "charge.dispute.funds_withdrawn", now, {**dispute, "status": "needs_response"})
    kind = "updated" if end == "under_review" else "closed"
    event(author, f"charge.dispute.{kind}", now + author.random.choice([1, 50]), {**dispute, "status": end})
    author.world.expect(
        "disputes", ("stripe", dispute["id"]), status=end, amount=bought.captured, payment_intent_id=bought.payment
    )
    return bought.captured if end == "lost" else None
