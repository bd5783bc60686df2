"""Standard Webhooks: `credits.used` to credit entries; every other type is stored and indexed. Pure."""

from collections.abc import Iterator
from typing import Final

from pydantic import ValidationError

from processors.projections.base import Event
from schemas.billing import CreditEntry
from schemas.envelope import Record
from schemas.facts import CREDIT_ENTRIES
from schemas.lattice import Version
from schemas.providers.base import Payload, time_of_iso
from schemas.providers.standardwebhooks import CreditsUsed

VERSION: Final = 2
WRITES: Final = (CREDIT_ENTRIES,)

CREDITS_USED: Final = "standardwebhooks.credits.used"
READS: Final = frozenset({"credits.used"})


def project(record: Record, payload: Payload) -> Iterator[Event]:
    at = time_of_iso(payload.get("timestamp")) if isinstance(payload, dict) else None
    if record.type != CREDITS_USED:
        yield Event(record.record_id, record.type, at)
        return
    try:
        used = CreditsUsed.model_validate(payload["data"])
    except (ValidationError, KeyError) as error:
        # The sender's own schema: a body that does not follow it is an event that we can't read, not a broken record.
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "no data"
        yield Event(record.record_id, record.type, at, error=f"not a credits.used event: {reason}")
        return
    fact = CreditEntry(
        version=Version(at, 0, record.record_id),
        source=used.source,
        entry_id=used.id,
        kind="usage",
        customer_id=used.customer,
        credits=-used.credits,
        occurred_at=at,
        reason=used.reason,
    )
    yield Event(record.record_id, record.type, at, (fact,))
