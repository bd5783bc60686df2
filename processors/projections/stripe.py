"""Stripe events to subscriptions, invoices, payments and credit entries. Pure."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from processors.projections.base import Event
from schemas.envelope import Record
from schemas.facts import CREDIT_ENTRIES, INVOICES, PAYMENTS, SUBSCRIPTIONS, CreditEntry, Invoice, Payment, Subscription
from schemas.lattice import Fact, Version
from schemas.providers.base import (
    Payload,
    clean_type,
    event_id,
    require_text,
    time_of_iso,
    time_of_seconds,
)
from schemas.providers.models import require_object
from schemas.providers.stripe import (
    StripeCharge,
    StripeCheckoutSession,
    StripeInvoice,
    StripePaymentIntent,
    StripeSubscription,
)

VERSION: Final = 2
WRITES: Final = (CREDIT_ENTRIES, INVOICES, PAYMENTS, SUBSCRIPTIONS)

CREDIT_PURCHASE: Final = "credit_purchase"

_PAYMENT_RANKS: Final = {
    "payment_intent.created": 0,
    "payment_intent.requires_action": 1,
    "payment_intent.processing": 2,
    "payment_intent.amount_capturable_updated": 3,
    "payment_intent.payment_failed": 4,
    "payment_intent.canceled": 5,
    "checkout.session.async_payment_failed": 6,
    "checkout.session.completed": 7,
    "checkout.session.async_payment_succeeded": 8,
    "payment_intent.succeeded": 9,
}
"""Among events of one second, the one further along a payment's life says its state."""

_CHECKOUT_STATUSES: Final = {
    ("checkout.session.completed", "paid"): "succeeded",
    ("checkout.session.completed", "unpaid"): "processing",
    ("checkout.session.async_payment_succeeded", "paid"): "succeeded",
    ("checkout.session.async_payment_failed", "unpaid"): "requires_payment_method",
}

_GIVEN_UP: Final = frozenset({"invoice.voided", "invoice.marked_uncollectible"})

Facts = tuple[tuple[Fact, ...], str | None]
"""The facts of an event, and why it is ignored all the same, if it is."""


class _Context:
    """What every rule needs of the envelope."""

    def __init__(self, record: Record, payload: Payload) -> None:
        payload = require_object(payload, "the body")
        self.source = record.source
        self.type = require_text(payload.get("type"), "type")
        self.id = require_text(payload.get("id"), "id")
        created = payload.get("created")
        self.created = time_of_iso(created) if isinstance(created, str) else time_of_seconds(created)

    def version(self, rank: int = 0) -> Version:
        return Version(self.created, rank, self.id)


def _subscription(context: _Context, data: dict[str, Any]) -> Facts:
    found = StripeSubscription.model_validate(data)
    item = found.items.data[0] if found.items.data else None
    price = (item.price or item.plan if item else None) or found.plan
    period_end = item.current_period_end if item and item.current_period_end is not None else found.current_period_end
    rank = {"customer.subscription.created": 0, "customer.subscription.deleted": 2}.get(context.type, 1)
    fact = Subscription(
        version=context.version(rank),
        source=context.source,
        subscription_id=found.id,
        customer_id=found.customer,
        status=found.status,
        price_id=price.id if price else None,
        current_period_end=_time(period_end),
        cancel_at_period_end=found.cancel_at_period_end,
        event_created=context.created,
        event_id=context.id,
    )
    return (fact,), None


def _invoice(context: _Context, data: dict[str, Any]) -> Facts:
    found = StripeInvoice.model_validate(data)
    fact = Invoice(
        version=context.version(),
        source=context.source,
        invoice_id=found.id,
        subscription_id=found.subscription_id,
        customer_id=found.customer,
        status=found.status,
        amount_due=found.amount_due,
        amount_paid=found.amount_paid,
        currency=found.currency,
        attempt_count=found.attempt_count,
        created_at=_time(found.created),
        last_failed_at=context.created if context.type == "invoice.payment_failed" else None,
        paid_at=_time(found.status_transitions.paid_at),
        given_up_at=context.created if context.type in _GIVEN_UP else None,
    )
    return (fact,), None


def _payment_intent(context: _Context, data: dict[str, Any]) -> Facts:
    found = StripePaymentIntent.model_validate(data)
    error = found.last_payment_error
    payment = Payment(
        version=context.version(_PAYMENT_RANKS.get(context.type, 3)),
        source=context.source,
        payment_intent_id=found.id,
        customer_id=found.customer,
        purpose=found.metadata.get("type"),
        status=found.status,
        amount=found.amount,
        currency=found.currency,
        failure_code=(error.code or error.decline_code) if error else None,
        occurred_at=context.created,
    )
    if context.type != "payment_intent.succeeded" or found.metadata.get("type") != CREDIT_PURCHASE:
        return (payment,), None
    credits = found.metadata.get("credits", "")
    if not (credits.isascii() and credits.isdigit() and int(credits) > 0):
        return (payment,), "metadata.credits is not a positive whole number"
    if found.amount == 0:
        return (payment,), "a credit purchase of amount 0"
    purchase = CreditEntry(
        version=context.version(),
        source=context.source,
        entry_id=found.id,
        kind="purchase",
        customer_id=found.customer,
        credits=int(credits),
        amount=found.amount,
        occurred_at=context.created,
    )
    return (payment, purchase), None


def _checkout_session(context: _Context, data: dict[str, Any]) -> Facts:
    """A session names the payment or the subscription that it made, and whose they are; it adds no credits."""
    found = StripeCheckoutSession.model_validate(data)
    facts: list[Fact] = []
    if found.payment_intent:
        facts.append(
            Payment(
                version=context.version(_PAYMENT_RANKS.get(context.type, 0)),
                source=context.source,
                payment_intent_id=found.payment_intent,
                customer_id=found.customer,
                client_reference_id=found.client_reference_id,
                purpose=(found.metadata or {}).get("type"),
                status=_CHECKOUT_STATUSES.get((context.type, found.payment_status or "")),
                amount=found.amount_total,
                currency=found.currency,
                occurred_at=context.created,
            )
        )
    if found.subscription and found.client_reference_id and context.type == "checkout.session.completed":
        facts.append(
            Subscription(
                version=context.version(),
                source=context.source,
                subscription_id=found.subscription,
                client_reference_id=found.client_reference_id,
            )
        )
    return tuple(facts), None


def _charge_refunded(context: _Context, data: dict[str, Any]) -> Facts:
    """`amount_refunded` is cumulative, so its maximum is the state."""
    found = StripeCharge.model_validate(data)
    if not found.payment_intent:
        return (), "a charge without a payment intent"
    fact = Payment(
        version=context.version(),
        source=context.source,
        payment_intent_id=found.payment_intent,
        customer_id=found.customer,
        amount_refunded=found.amount_refunded,
        currency=found.currency,
    )
    return (fact,), None


def _time(seconds: int | None) -> datetime | None:
    return time_of_seconds(seconds)


_RULES: Final[dict[str, Callable[[_Context, dict[str, Any]], Facts]]] = {
    **{
        f"customer.subscription.{verb}": _subscription
        for verb in (
            "created",
            "updated",
            "deleted",
            "paused",
            "resumed",
            "trial_will_end",
            "pending_update_applied",
            "pending_update_expired",
        )
    },
    **{
        f"invoice.{verb}": _invoice
        for verb in (
            "created",
            "finalized",
            "updated",
            "paid",
            "payment_succeeded",
            "payment_failed",
            "payment_action_required",
            "overdue",
            "sent",
            "voided",
            "marked_uncollectible",
        )
    },
    **{name: _payment_intent for name in _PAYMENT_RANKS if name.startswith("payment_intent.")},
    **{
        f"checkout.session.{verb}": _checkout_session
        for verb in ("completed", "async_payment_succeeded", "async_payment_failed", "expired")
    },
    "charge.refunded": _charge_refunded,
}
"""Event type -> rule. A type that is not here is ignored: stored, indexed, and read by nobody."""

READS: Final = frozenset(_RULES)


def project(record: Record, payload: Payload) -> Iterator[Event]:
    context = _Context(record, payload)
    facts: tuple[Fact, ...] = ()
    error: str | None = None
    rule = _RULES.get(context.type)
    if rule is not None:
        data = require_object(payload.get("data"), "data")
        facts, error = rule(context, require_object(data.get("object"), "data.object"))
    yield Event(event_id(context.id), f"stripe.{clean_type(context.type)}", context.created, facts, error)
