"""Standard Webhooks: `credits.used` to credit entries; every other type is stored and indexed. Pure."""

from collections.abc import Iterator
from typing import Final

from processors.projections.base import Event
from schemas.billing import CreditEntry
from schemas.envelope import Record
from schemas.facts import CREDIT_ENTRIES
from schemas.lattice import Version
from schemas.providers.base import BODY_ID_PREFIX, Payload, Unparsable, clean_type, time_of_iso
from schemas.providers.models import require_object
from schemas.providers.standardwebhooks import CreditsUsed
from schemas.text import REPLACEMENT

VERSION: Final = 4
WRITES: Final = (CREDIT_ENTRIES,)

CREDITS_USED: Final = "standardwebhooks.credits.used"
READS: Final = frozenset({"credits.used"})
_OTHER_KINDS: Final = ("pi_", "correction:")


def project(record: Record, payload: Payload) -> Iterator[Event]:
    at = time_of_iso(payload.get("timestamp")) if isinstance(payload, dict) else None
    # Any JSON may be signed; an event without a type is not one that we read.
    kind = payload.get("type") if isinstance(payload, dict) else None
    if not isinstance(kind, str) or kind not in READS:
        yield Event(record.record_id, f"standardwebhooks.{clean_type(kind)}", at)
        return
    if record.record_id.startswith(BODY_ID_PREFIX):
        raise Unparsable("webhook-id: not UTF-8 text")
    used = CreditsUsed.model_validate(require_object(payload.get("data"), "data"))
    _require_names(record, used)
    _require_own_id(used)
    fact = CreditEntry(
        version=Version(at, 0, record.record_id),
        source=used.source,
        entry_id=used.id,
        kind="usage",
        customer_id=used.customer,
        credits=-used.credits,
        occurred_at=at,
        reason=used.reason,
        first_sender=record.source,
        last_sender=record.source,
        last_occurred_at=at,
    )
    yield Event(record.record_id, CREDITS_USED, at, (fact,))


def _require_own_id(used: CreditsUsed) -> None:
    """Entries of all kinds share a table: a usage must not take the place of a purchase or a correction. Raises
    `Unparsable`.
    """
    if used.id.startswith(_OTHER_KINDS):
        raise Unparsable(f"data.id: {' and '.join(_OTHER_KINDS)} begin the ids of purchases and corrections")


def _require_names(record: Record, used: CreditsUsed) -> None:
    """Bytes that are not UTF-8 are read as U+FFFD, whichever they were: two usages, or two customers, could become one.
    Raises `Unparsable`.
    """
    for name, value in (("source", used.source), ("id", used.id), ("customer", used.customer)):
        if REPLACEMENT in value and not _is_utf8(record.body):
            raise Unparsable(f"data.{name}: not UTF-8 text")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
