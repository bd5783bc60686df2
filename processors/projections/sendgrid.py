"""SendGrid events to messages; one record holds a batch of them. Pure."""

from collections.abc import Iterator
from typing import Any, Final

from processors.projections.base import Event, project_each
from schemas.envelope import Record
from schemas.facts import BOUNCED, MESSAGES, Message
from schemas.lattice import Version
from schemas.providers.base import Payload, clean_type, time_of_seconds
from schemas.providers.batches import OTHER, other_id
from schemas.providers.sendgrid import SendGridEvent, event_name, events, is_foreign

VERSION: Final = 2
WRITES: Final = (MESSAGES,)

_STATUSES: Final = {
    "processed": "sent",
    "deferred": "sending",
    "delivered": "delivered",
    "open": "read",
    "click": "read",
    "bounce": BOUNCED,
    "dropped": "failed",
}


def project(record: Record, payload: Payload) -> Iterator[Event]:
    if is_foreign(payload):
        yield Event(other_id(payload), f"sendgrid.{OTHER}", None)
        return
    yield from project_each(record, events(payload), _project_event, _identify)


def _identify(data: dict[str, Any]) -> tuple[str, str]:
    """(event id, type)."""
    return event_name(data), f"sendgrid.{clean_type(data.get('event'))}"


def _project_event(record: Record, data: dict[str, Any]) -> Event:
    event_id = event_name(data)
    at = time_of_seconds(data.get("timestamp"))
    kind = clean_type(data.get("event"))
    status = _STATUSES.get(kind)
    if status is None:
        return Event(event_id, f"sendgrid.{kind}", at)
    found = SendGridEvent.model_validate(data)
    if kind == "open" and found.sg_machine_open:
        # A mail client that loads every image on arrival: nobody has read anything.
        return Event(event_id, f"sendgrid.{kind}", at)
    if found.message_id is None:
        return Event(event_id, f"sendgrid.{kind}", at, error="an event without sg_message_id: it names no message")
    is_failure = status in {"failed", BOUNCED}
    fact = Message(
        version=Version(at, 0, event_id),
        source=record.source,
        message_id=found.message_id,
        provider="sendgrid",
        channel="email",
        direction="outbound",
        # One message may go to several people: whose address is shown is whose status is.
        status_recipient=found.email or None,
        status=status,
        error_code=(found.status or found.type) if is_failure else None,
        error_message=found.reason if is_failure else None,
        sent_at=at if status == "sent" else None,
        delivered_at=at if status == "delivered" else None,
        read_at=at if status == "read" else None,
        failed_at=at if is_failure else None,
        occurred_at=at,
    )
    return Event(event_id, f"sendgrid.{kind}", at, (fact,))
