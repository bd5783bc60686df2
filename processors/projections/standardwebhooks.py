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
_OWN_SOURCE: Final = "standardwebhooks"
_OF_SOURCE: Final = "source:"
_OTHER_KINDS: Final = ("pi_", "correction:", _OF_SOURCE)


def project(record: Record, payload: Payload) -> Iterator[Event]:
    at = time_of_iso(payload.get("timestamp")) if isinstance(payload, dict) else None
    # Any JSON may be signed, and what has no type is none that we read.
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
        entry_id=_entry_id(record.source, used.id),
        kind="usage",
        customer_id=used.customer,
        credits=-used.credits,
        occurred_at=at,
        reason=used.reason,
    )
    yield Event(record.record_id, CREDITS_USED, at, (fact,))


def _entry_id(sender: str, used_id: str) -> str:
    """`data.id`, for the source that has the provider's name. Of any other source the sender is a part of the entry's
    identity: two senders number their usages as they like, and may charge the same accounts.
    """
    return used_id if sender == _OWN_SOURCE else f"{_OF_SOURCE}{sender}:{used_id}"


def _require_own_id(used: CreditsUsed) -> None:
    """Entries of all kinds share a table: a usage must not take the place of a purchase, of a correction or of another
    source's usage. Raises `Unparsable`.
    """
    if used.id.startswith(_OTHER_KINDS):
        named = ", ".join(_OTHER_KINDS)
        raise Unparsable(f"data.id: {named} begin the ids of purchases and corrections, and those of other sources")


def _require_names(record: Record, used: CreditsUsed) -> None:
    """Bytes that are no UTF-8 are read as U+FFFD, whichever they were: two usages, or two customers, could become one.
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
