"""Stripe events to subscriptions, invoices, payments and credit entries. Pure."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from processors.projections.base import Event
from processors.projections.stripe_event import StripeEvent, StripeFacts
from processors.projections.stripe_refunds import DISPUTE_RANKS, REFUNDED, charge, dispute, refund
from schemas.billing import (
    MAX_CREDITS,
    CreditEntry,
    Invoice,
    Payment,
    Subscription,
)
from schemas.envelope import Record
from schemas.facts import CREDIT_ENTRIES, DISPUTES, INVOICES, PAYMENTS, REFUNDS, SUBSCRIPTIONS
from schemas.lattice import Fact
from schemas.providers.base import (
    Payload,
    clean_type,
    event_id,
    time_of_seconds,
)
from schemas.providers.models import require_object
from schemas.providers.stripe import (
    Metadata,
    StripeCheckoutSession,
    StripeInvoice,
    StripePaymentIntent,
    StripeSubscription,
)

VERSION: Final = 2
WRITES: Final = (CREDIT_ENTRIES, DISPUTES, INVOICES, PAYMENTS, REFUNDS, SUBSCRIPTIONS)

CREDIT_PURCHASE: Final = "credit_purchase"

_PAYMENT_LIFE: Final = (
    "payment_intent.created", "payment_intent.requires_action", "payment_intent.processing",
    "payment_intent.amount_capturable_updated", "payment_intent.payment_failed", "payment_intent.canceled",
    "checkout.session.async_payment_failed", "checkout.session.completed", "checkout.session.async_payment_succeeded",
    "payment_intent.succeeded",
)  # fmt: skip
_PAYMENT_RANKS: Final = {name: rank for rank, name in enumerate(_PAYMENT_LIFE)}
"""Among events of one second, the one further along a payment's life says its state."""

_CHECKOUT_STATUSES: Final = {
    ("checkout.session.completed", "paid"): "succeeded",
    ("checkout.session.completed", "unpaid"): "processing",
    ("checkout.session.async_payment_succeeded", "paid"): "succeeded",
    ("checkout.session.async_payment_failed", "unpaid"): "requires_payment_method",
}

_GIVEN_UP: Final = frozenset({"invoice.voided", "invoice.marked_uncollectible"})


def _subscription(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
    found = StripeSubscription.model_validate(data)
    prices = found.prices
    rank = {"customer.subscription.created": 0, "customer.subscription.deleted": 2}.get(context.type, 1)
    fact = Subscription(
        version=context.version(rank),
        source=context.source,
        subscription_id=found.id,
        customer_id=found.customer,
        status=found.status,
        price_id=prices[0] if prices else None,
        # Which of several counts is for the view to say: tiers are configuration.
        price_ids="\n".join(prices) if len(prices) > 1 else None,
        current_period_end=time_of_seconds(found.next_period_end),
        cancel_at_period_end=found.cancel_at_period_end,
        event_created=context.created,
        event_id=context.id,
    )
    return (fact,), None


def _invoice(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
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
        created_at=time_of_seconds(found.created),
        last_failed_at=context.created if context.type == "invoice.payment_failed" else None,
        paid_at=time_of_seconds(found.status_transitions.paid_at),
        given_up_at=context.created if context.type in _GIVEN_UP else None,
    )
    return (fact,), None


def _payment_intent(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
    found = StripePaymentIntent.model_validate(data)
    error = found.last_payment_error
    is_succeeded = context.type == "payment_intent.succeeded"
    payment = Payment(
        version=context.version(_PAYMENT_RANKS.get(context.type, 3)),
        source=context.source,
        payment_intent_id=found.id,
        customer_id=found.customer,
        purpose=found.metadata.get("type"),
        status=found.status,
        amount=found.amount,
        amount_received=found.amount_received,
        currency=found.currency,
        failure_code=(error.code or error.decline_code) if error else None,
        occurred_at=context.created,
        succeeded_at=context.created if is_succeeded else None,
    )
    if not is_succeeded or found.metadata.get("type") != CREDIT_PURCHASE:
        return (payment,), None
    credits = _credits(found.metadata)
    cost = found.amount_received or found.amount
    fault = _fault_of_purchase(found.metadata, cost)
    if credits is None or cost == 0:
        return (payment,), fault
    purchase = CreditEntry(
        version=context.version(),
        source=context.source,
        entry_id=found.id,
        kind="purchase",
        customer_id=found.customer,
        credits=credits,
        amount=cost,
        occurred_at=context.created,
    )
    return (payment, purchase), fault


def _credits(metadata: Metadata) -> int | None:
    """The credits of a purchase: a whole number from 1 to `MAX_CREDITS`, else None."""
    text = metadata.get("credits", "").lstrip("0")
    is_countable = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_CREDITS))
    return int(text) if is_countable and int(text) <= MAX_CREDITS else None


def _fault_of_purchase(metadata: Metadata, cost: int | None) -> str | None:
    """The fault of this event, whatever others say. A missing value is not one: `unassigned_purchases` shows it."""
    if "credits" in metadata and _credits(metadata) is None:
        # A power, because the digits would be masked like a card's.
        return "metadata.credits is not a whole number from 1 to 10^15"
    return "a credit purchase of amount 0" if cost == 0 else None


def _checkout_session(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
    """A session names the payment or the subscription that it made, and whose they are.

    The credits in its metadata count where the payment intent has none, once that has succeeded.
    """
    found = StripeCheckoutSession.model_validate(data)
    purpose, credits = found.metadata.get("type"), _credits(found.metadata)
    facts: list[Fact] = []
    if found.payment_intent:
        facts.append(
            Payment(
                version=context.version(_PAYMENT_RANKS.get(context.type, 0)),
                source=context.source,
                payment_intent_id=found.payment_intent,
                customer_id=found.customer,
                client_reference_id=found.client_reference_id,
                checkout_purpose=purpose,
                status=_CHECKOUT_STATUSES.get((context.type, found.payment_status or "")),
                amount=found.amount_total,
                currency=found.currency,
                occurred_at=context.created,
            )
        )
        if purpose == CREDIT_PURCHASE and credits is not None:
            facts.append(
                CreditEntry(
                    version=context.version(),
                    source=context.source,
                    entry_id=found.payment_intent,
                    checkout_credits=credits,
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
    if purpose != CREDIT_PURCHASE or found.payment_status not in {"paid", "no_payment_required"}:
        return tuple(facts), None
    fault = _fault_of_purchase(found.metadata, found.amount_total)
    # A subscription, say: its invoice was paid, and no field that we read would bring the credits.
    return tuple(facts), fault or (None if found.payment_intent else "a credit purchase without a payment intent")


_SUBSCRIPTION_VERBS: Final = (
    "created updated deleted paused resumed trial_will_end pending_update_applied pending_update_expired"
)
_INVOICE_VERBS: Final = (
    "created finalized updated paid payment_succeeded payment_failed payment_action_required overdue sent voided"
    " marked_uncollectible"
)
_RULES: Final[dict[str, Callable[[StripeEvent, dict[str, Any]], StripeFacts]]] = {
    **{f"customer.subscription.{verb}": _subscription for verb in _SUBSCRIPTION_VERBS.split()},
    **{f"invoice.{verb}": _invoice for verb in _INVOICE_VERBS.split()},
    **{name: _payment_intent for name in _PAYMENT_RANKS if name.startswith("payment_intent.")},
    **{name: _checkout_session for name in _PAYMENT_RANKS if name.startswith("checkout.session.")},
    "checkout.session.expired": _checkout_session,
    **dict.fromkeys((REFUNDED, "charge.updated"), charge),
    **dict.fromkeys(("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"), refund),
    **dict.fromkeys(DISPUTE_RANKS, dispute),
}
"""Event type -> rule. A type that is not here is ignored: stored, indexed, and read by nobody."""

READS: Final = frozenset(_RULES)


def project(record: Record, payload: Payload) -> Iterator[Event]:
    context = StripeEvent(record, payload)
    facts: tuple[Fact, ...] = ()
    error: str | None = None
    rule = _RULES.get(context.type)
    if rule is not None:
        data = require_object(payload.get("data"), "data")
        facts, error = rule(context, require_object(data.get("object"), "data.object"))
    yield Event(event_id(context.id), f"stripe.{clean_type(context.type)}", context.created, facts, error)
