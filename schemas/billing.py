"""The facts of billing: subscriptions, payments, credits, and what operators correct. Their tables: `facts.py`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from schemas.lattice import Constant, Fact, Key, Latest, Max, Min, Ranked

MAX_CREDITS: Final = 10**15
"""The limit of one entry: a sum of entries must fit into a bigint, or no balance can be read."""

INVOICE_STATUSES: Final = ("draft", "open", "uncollectible", "void", "paid")

REFUND_STATUSES: Final = ("pending", "requires_action", "succeeded", "canceled", "failed")
"""A refund that succeeded may still fail, when the bank sends it back; one that failed or was canceled stays that."""

UNDONE_REFUNDS: Final = frozenset({"canceled", "failed"})

_SubscriptionState = Latest("state")
_InvoiceAmounts = Latest("amounts")
_PaymentState = Latest("state")
_ChargeWord = Latest("charge")
_DisputeState = Latest("state")
_AccountWord = Latest("word")
_CorrectedStatus = Latest("status")
_CorrectedPeriod = Latest("period")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription(Fact):
    """A subscription's state as one event saw it. `price_ids`: a line per price, of several items."""

    source: Annotated[str, Key()]
    subscription_id: Annotated[str, Key()]
    customer_id: Annotated[str | None, _SubscriptionState] = None
    client_reference_id: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, _SubscriptionState] = None
    price_id: Annotated[str | None, _SubscriptionState] = None
    price_ids: Annotated[str | None, _SubscriptionState] = None
    current_period_end: Annotated[datetime | None, _SubscriptionState] = None
    cancel_at_period_end: Annotated[bool | None, _SubscriptionState] = None
    event_created: Annotated[datetime | None, _SubscriptionState] = None
    event_id: Annotated[str | None, _SubscriptionState] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice(Fact):
    """An invoice. Amounts are in the currency's smallest unit."""

    source: Annotated[str, Key()]
    invoice_id: Annotated[str, Key()]
    subscription_id: Annotated[str | None, Constant()] = None
    customer_id: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, Ranked(INVOICE_STATUSES)] = None
    amount_due: Annotated[int | None, _InvoiceAmounts] = None
    amount_paid: Annotated[int | None, _InvoiceAmounts] = None
    currency: Annotated[str | None, _InvoiceAmounts] = None
    attempt_count: Annotated[int | None, Max()] = None
    created_at: Annotated[datetime | None, Min()] = None
    last_failed_at: Annotated[datetime | None, Max()] = None
    paid_at: Annotated[datetime | None, Min()] = None
    given_up_at: Annotated[datetime | None, Max()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment(Fact):
    """A payment intent, seen through its own events, its checkout session and its charge.

    `amount_refunded` is the greatest cumulative figure of a charge; `charge_refunded` what the charge said last, which
    is less once a refund failed: it knows of those that had failed by `charge_knows_until`. `amount_received` is what
    was captured of `amount`. `checkout_purpose` is what the metadata of its checkout session say.
    """

    source: Annotated[str, Key()]
    payment_intent_id: Annotated[str, Key()]
    customer_id: Annotated[str | None, Constant()] = None
    client_reference_id: Annotated[str | None, Constant()] = None
    purpose: Annotated[str | None, Constant()] = None
    checkout_purpose: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, _PaymentState] = None
    amount: Annotated[int | None, Constant()] = None
    amount_received: Annotated[int | None, Max()] = None
    amount_refunded: Annotated[int | None, Max()] = None
    charge_refunded: Annotated[int | None, _ChargeWord] = None
    charge_knows_until: Annotated[datetime | None, _ChargeWord] = None
    currency: Annotated[str | None, Constant()] = None
    failure_code: Annotated[str | None, _PaymentState] = None
    occurred_at: Annotated[datetime | None, Min()] = None
    succeeded_at: Annotated[datetime | None, Min()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund(Fact):
    """A refund of a payment: it counts unless it failed or was canceled, which may come long after it succeeded.

    `undone_at` is when that was first said.
    """

    source: Annotated[str, Key()]
    refund_id: Annotated[str, Key()]
    payment_intent_id: Annotated[str | None, Constant()] = None
    charge_id: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, Ranked(REFUND_STATUSES)] = None
    amount: Annotated[int | None, Constant()] = None
    currency: Annotated[str | None, Constant()] = None
    failure_reason: Annotated[str | None, Constant()] = None
    occurred_at: Annotated[datetime | None, Min()] = None
    undone_at: Annotated[datetime | None, Min()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute(Fact):
    """A payment that its payer disputes: the money is gone once it is lost, and not before."""

    source: Annotated[str, Key()]
    dispute_id: Annotated[str, Key()]
    payment_intent_id: Annotated[str | None, Constant()] = None
    charge_id: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, _DisputeState] = None
    amount: Annotated[int | None, _DisputeState] = None
    currency: Annotated[str | None, _DisputeState] = None
    reason: Annotated[str | None, _DisputeState] = None
    occurred_at: Annotated[datetime | None, Min()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditEntry(Fact):
    """Credits bought (positive), used (negative) or adjusted (either).

    `amount` is what a purchase cost, to share out its refunds. `checkout_credits` are those that the metadata of a
    checkout session names: they count where the payment intent names none. `first_sender` and `last_sender` are the
    first and the last by name of the sources that announced a usage, `last_occurred_at` is its latest time: several
    usages may have one id.
    """

    source: Annotated[str, Key()]
    entry_id: Annotated[str, Key()]
    kind: Annotated[str | None, Constant()] = None
    customer_id: Annotated[str | None, Constant()] = None
    credits: Annotated[int | None, Constant()] = None
    checkout_credits: Annotated[int | None, Constant()] = None
    amount: Annotated[int | None, Constant()] = None
    occurred_at: Annotated[datetime | None, Min()] = None
    reason: Annotated[str | None, Constant()] = None
    first_sender: Annotated[str | None, Min()] = None
    last_sender: Annotated[str | None, Max()] = None
    last_occurred_at: Annotated[datetime | None, Max()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCorrection(Fact):
    """An operator's freeze or unfreeze of an account: the last one counts, for as long as the view lets it."""

    source: Annotated[str, Key()]
    customer_id: Annotated[str, Key()]
    is_frozen: Annotated[bool | None, _AccountWord] = None
    corrected_at: Annotated[datetime | None, _AccountWord] = None
    event_id: Annotated[str | None, _AccountWord] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCorrection(Fact):
    """An operator's correction of a subscription, beside the provider's facts: the view shows the later of the two."""

    source: Annotated[str, Key()]
    subscription_id: Annotated[str, Key()]
    customer_id: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, _CorrectedStatus] = None
    corrected_at: Annotated[datetime | None, _CorrectedStatus] = None
    event_id: Annotated[str | None, _CorrectedStatus] = None
    current_period_end: Annotated[datetime | None, _CorrectedPeriod] = None
    period_corrected_at: Annotated[datetime | None, _CorrectedPeriod] = None
