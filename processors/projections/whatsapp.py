"""WhatsApp messages and statuses to messages; one record may hold up to a thousand of them. Pure."""

from collections.abc import Iterator
from typing import Any, Final

from processors.projections.base import UNKNOWN_STATUS, Event, e164, is_opt_out
from schemas.envelope import Record
from schemas.facts import MESSAGES, Message
from schemas.lattice import Version
from schemas.providers.base import Payload, clean_type, time_of_seconds
from schemas.providers.whatsapp import (
    Metadata,
    StatusError,
    WhatsAppMessage,
    WhatsAppStatus,
    change_event_id,
    changes,
    message_event_id,
    status_event_id,
    updates,
)

VERSION: Final = 2
WRITES: Final = (MESSAGES,)

_STATUSES: Final = {"sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed"}


def project(record: Record, payload: Payload) -> Iterator[Event]:
    for change in changes(payload):
        messages, statuses = updates(change)
        if not messages and not statuses:
            yield Event(change_event_id(change), f"whatsapp.{clean_type(change.get('field'))}", None)
            continue
        metadata = Metadata.model_validate(change["value"].get("metadata") or {})
        our_number = e164(metadata.display_phone_number)
        for message in messages:
            yield _message(record.source, our_number, message)
        for status in statuses:
            yield _status(record.source, our_number, status)


def _message(source: str, our_number: str | None, data: dict[str, Any]) -> Event:
    found = WhatsAppMessage.model_validate(data)
    event_id = message_event_id(data)
    at = time_of_seconds(found.timestamp)
    body = _body(found)
    peer = e164(found.sender)
    code, text = _error(found.errors)
    fact = Message(
        version=Version(at, 0, event_id),
        source=source,
        message_id=found.id,
        provider="whatsapp",
        channel="whatsapp",
        direction="inbound",
        sender=peer,
        recipient=our_number,
        our_number=our_number,
        peer_number=peer,
        kind=found.type,
        body=body,
        status="received",
        error_code=code,
        error_message=text,
        is_opt_out=is_opt_out(body),
        occurred_at=at,
    )
    return Event(event_id, f"whatsapp.message.{clean_type(found.type)}", at, (fact,))


def _status(source: str, our_number: str | None, data: dict[str, Any]) -> Event:
    found = WhatsAppStatus.model_validate(data)
    event_id = status_event_id(data)
    at = time_of_seconds(found.timestamp)
    kind = f"whatsapp.status.{clean_type(found.status)}"
    status = _STATUSES.get(found.status)
    if status is None:
        return Event(event_id, kind, at, error=UNKNOWN_STATUS)
    peer = e164(found.recipient_id)
    code, text = _error(found.errors)
    fact = Message(
        version=Version(at, 0, event_id),
        source=source,
        message_id=found.id,
        provider="whatsapp",
        channel="whatsapp",
        direction="outbound",
        sender=our_number,
        recipient=peer,
        our_number=our_number,
        peer_number=peer,
        status=status,
        error_code=code,
        error_message=text,
        occurred_at=at,
        sent_at=at if status == "sent" else None,
        delivered_at=at if status == "delivered" else None,
        read_at=at if status == "read" else None,
        failed_at=at if status == "failed" else None,
    )
    return Event(event_id, kind, at, (fact,))


def _error(errors: tuple[StatusError, ...]) -> tuple[str | None, str | None]:
    if not errors:
        return None, None
    first = errors[0]
    details = first.error_data.details if first.error_data else None
    return None if first.code is None else str(first.code), details or first.message or first.title


def _body(message: WhatsAppMessage) -> str | None:
    """The text or the caption, wherever this type of message keeps it."""
    media = message.image or message.video or message.document
    reply = message.interactive or {}
    candidates = (
        (message.text or {}).get("body"),
        (media or {}).get("caption"),
        (message.button or {}).get("text"),
        (reply.get("button_reply") or reply.get("list_reply") or {}).get("title"),
        (message.reaction or {}).get("emoji"),
        (message.system or {}).get("body"),
    )
    return next((text for text in candidates if isinstance(text, str)), None)
