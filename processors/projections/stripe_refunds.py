"""Stripe's money on its way back: charges, refunds and disputes of a payment. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from processors.projections.base import UNKNOWN_STATUS
from processors.projections.stripe_event import StripeEvent, StripeFacts
from schemas.billing import (
    REFUND_STATUSES,
    UNDONE_REFUNDS,
    Dispute,
    Payment,
    Refund,
)
from schemas.lattice import Version
from schemas.providers.base import (
    time_of_seconds,
)
from schemas.providers.stripe import (
    StripeCharge,
    StripeDispute,
    StripeRefund,
)

_MOMENT: Final = timedelta(microseconds=1)
_FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)

_DISPUTE_LIFE: Final = ("created", "updated", "funds_withdrawn", "closed", "funds_reinstated")
DISPUTE_RANKS: Final = {f"charge.dispute.{verb}": rank for rank, verb in enumerate(_DISPUTE_LIFE)}

REFUNDED: Final = "charge.refunded"


def charge(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
    """A charge says how much of it is refunded, all told; where it lists its refunds, also which."""
    found = StripeCharge.model_validate(data)
    if not found.payment_intent:
        return (), "a charge without a payment intent"
    # One charge of a payment succeeds: the declined ones know nothing of its refunds.
    is_declined = found.status == "failed"
    payment = Payment(
        # Without an id, so that several refunds of one second tie: then the greatest figure is the last.
        version=Version(context.created, int(context.type == REFUNDED), ""),
        source=context.source,
        payment_intent_id=found.payment_intent,
        customer_id=found.customer,
        amount_refunded=None if is_declined else found.amount_refunded,
        charge_refunded=None if is_declined else found.amount_refunded,
        charge_knows_until=None if is_declined else _known_until(context),
        currency=found.currency,
    )
    refunds = found.refunds.data if found.refunds else ()
    return (payment, *(_refund_fact(context, one, found.payment_intent, is_listed=True) for one in refunds)), None


def _known_until(context: StripeEvent) -> datetime | None:
    """Within its own second, `charge.updated` may be about the failure; `charge.refunded` is about another refund."""
    return _just_before(context.created) if context.type == REFUNDED else context.created


def refund(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
    found = StripeRefund.model_validate(data)
    if not found.payment_intent:
        return (), "a refund without a payment intent"
    is_known = found.status is None or found.status in REFUND_STATUSES
    return (_refund_fact(context, found, found.payment_intent),), None if is_known else UNKNOWN_STATUS


def _refund_fact(context: StripeEvent, found: StripeRefund, payment_intent: str, *, is_listed: bool = False) -> Refund:
    undone_at = context.created if found.status in UNDONE_REFUNDS else None
    return Refund(
        version=context.version(),
        source=context.source,
        refund_id=found.id,
        payment_intent_id=payment_intent,
        charge_id=found.charge,
        status=found.status if found.status in REFUND_STATUSES else None,
        amount=found.amount,
        currency=found.currency,
        failure_reason=found.failure_reason,
        occurred_at=time_of_seconds(found.created) or context.created,
        # The charge that lists it as undone doesn't count it any more.
        undone_at=_just_before(undone_at) if is_listed else undone_at,
    )


def _just_before(moment: datetime | None) -> datetime | None:
    return moment - _MOMENT if moment is not None and moment > _FIRST_MOMENT else moment


def dispute(context: StripeEvent, data: dict[str, Any]) -> StripeFacts:
    found = StripeDispute.model_validate(data)
    if not found.payment_intent:
        return (), "a dispute without a payment intent"
    dispute = Dispute(
        version=context.version(DISPUTE_RANKS[context.type]),
        source=context.source,
        dispute_id=found.id,
        payment_intent_id=found.payment_intent,
        charge_id=found.charge,
        status=found.status,
        amount=found.amount,
        currency=found.currency,
        reason=found.reason,
        occurred_at=time_of_seconds(found.created) or context.created,
    )
    return (dispute,), None
