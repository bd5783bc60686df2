"""Operators' corrections, as credit entries and as facts beside accounts and subscriptions. Pure."""

from collections.abc import Iterator
from typing import Final

from processors.projections.base import Event
from schemas.billing import AccountCorrection, CreditEntry, Subscription, SubscriptionCorrection
from schemas.corrections import AccountCorrected, Correction, CreditsAdjusted
from schemas.envelope import Record
from schemas.facts import ACCOUNT_CORRECTIONS, CREDIT_ENTRIES, SUBSCRIPTION_CORRECTIONS, SUBSCRIPTIONS
from schemas.lattice import Fact, Version

VERSION: Final = 2
WRITES: Final = (ACCOUNT_CORRECTIONS, CREDIT_ENTRIES, SUBSCRIPTIONS, SUBSCRIPTION_CORRECTIONS)


def project(record: Record) -> tuple[list[Event], bytes]:
    """Its event and its fingerprint. Raises `PoisonRecord`, or pydantic's ValidationError."""
    correction = Correction.decode(record)
    event = Event(correction.event_id, correction.type, correction.at, tuple(_facts(correction)))
    return [event], correction.fingerprint


def _facts(correction: Correction) -> Iterator[Fact]:
    change, source = correction.change, correction.source
    version = Version(correction.at, 0, correction.event_id)
    if isinstance(change, CreditsAdjusted):
        yield CreditEntry(
            version=version,
            source=source,
            entry_id=correction.event_id,
            kind="adjustment",
            customer_id=change.customer,
            credits=change.credits,
            occurred_at=correction.at,
            reason=correction.reason,
        )
    elif isinstance(change, AccountCorrected):
        yield AccountCorrection(
            version=version,
            source=source,
            customer_id=change.customer,
            is_frozen=change.type == "account.frozen",
            corrected_at=correction.at,
            event_id=correction.event_id,
        )
    else:
        # So that the view finds it where no event of the provider's has come.
        yield Subscription(version=version, source=source, subscription_id=change.subscription)
        yield SubscriptionCorrection(
            version=version,
            source=source,
            subscription_id=change.subscription,
            customer_id=change.customer,
            status=change.status,
            corrected_at=correction.at,
            event_id=correction.event_id,
            current_period_end=change.current_period_end,
            period_corrected_at=correction.at if change.current_period_end is not None else None,
        )
