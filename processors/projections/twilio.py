"""Twilio messages and calls, from form callbacks and Event Streams. Pure."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from processors.projections.base import UNKNOWN_STATUS, Event, e164, is_opt_out
from schemas.envelope import Record
from schemas.facts import CALLS, MESSAGE_STATUSES, MESSAGES, Call, Message
from schemas.lattice import Version
from schemas.providers.base import Payload, Unparsable, body_record_id, clean_type, event_id, require_text
from schemas.providers.twilio import (
    StreamMessage,
    form_fields,
    form_identity,
    form_time,
    is_event_stream,
    stream_events,
    stream_time,
)

VERSION: Final = 2
WRITES: Final = (CALLS, MESSAGES)

_CALL_STATUSES: Final = {
    "queued": "ringing",
    "initiated": "ringing",
    "ringing": "ringing",
    "in-progress": "answered",
    "completed": "completed",
    "busy": "busy",
    "failed": "failed",
    "no-answer": "no-answer",
    "canceled": "canceled",
}
_FAILED: Final = frozenset({"failed", "undelivered"})
_STREAM_PREFIX: Final = "com.twilio.messaging.message."


def project(record: Record, payload: Payload) -> Iterator[Event]:
    if is_event_stream(payload):
        for event in stream_events(payload):
            yield _stream_event(record.source, event)
        return
    fields = form_fields(payload)
    try:
        name, kind = form_identity(fields)
    except Unparsable as error:
        # Other callbacks (recordings, conferences) are well-formed: stored, indexed, read by nobody.
        if not fields:
            raise
        yield Event(
            body_record_id(record.body or record.query.encode("utf-8", "surrogateescape")),
            "twilio.other",
            None,
            error=str(error),
        )
        return
    rule = _call if kind.startswith("call.") else _message
    yield rule(record.source, name, f"twilio.{kind}", fields)


def _message(source: str, name: str, kind: str, fields: dict[str, str]) -> Event:
    """SMS callbacks carry no time: their order is the rank of their statuses."""
    status = (fields.get("MessageStatus") or fields.get("SmsStatus") or "received").lower()
    if status not in MESSAGE_STATUSES:
        return Event(name, kind, None, error=UNKNOWN_STATUS)
    is_inbound = status in ("receiving", "received")
    sender, recipient = e164(fields.get("From")), e164(fields.get("To"))
    body = (fields.get("Body") or None) if is_inbound else None
    fact = Message(
        version=Version(None, 0, name),
        source=source,
        message_id=fields["MessageSid"],
        provider="twilio",
        channel=_channel(fields),
        direction="inbound" if is_inbound else "outbound",
        sender=sender,
        recipient=recipient,
        our_number=recipient if is_inbound else sender,
        peer_number=sender if is_inbound else recipient,
        kind=_kind(fields) if is_inbound else None,
        body=body,
        status=status,
        error_code=fields.get("ErrorCode") or None,
        error_message=fields.get("ErrorMessage") or None,
        is_opt_out=is_inbound and (fields.get("OptOutType") == "STOP" or is_opt_out(body)),
    )
    return Event(name, kind, None, (fact,))


def _channel(fields: dict[str, str]) -> str:
    if fields.get("From", "").startswith("whatsapp:") or fields.get("To", "").startswith("whatsapp:"):
        return "whatsapp"
    return "mms" if fields["MessageSid"].startswith("MM") or _has_media(fields) else "sms"


def _has_media(fields: dict[str, str]) -> bool:
    return fields.get("NumMedia", "0") not in ("", "0")


def _kind(fields: dict[str, str]) -> str:
    if not _has_media(fields):
        return "text"
    family = fields.get("MediaContentType0", "").partition("/")[0]
    return family if family in ("image", "audio", "video") else "document"


def _call(source: str, name: str, kind: str, fields: dict[str, str]) -> Event:
    at = form_time(fields)
    status = _CALL_STATUSES.get(fields["CallStatus"])
    if status is None:
        return Event(name, kind, at, error=UNKNOWN_STATUS)
    is_terminal = status not in ("ringing", "answered")
    direction = fields.get("Direction", "")
    fact = Call(
        version=Version(at, 0, name),
        source=source,
        call_id=fields["CallSid"],
        provider="twilio",
        direction="inbound" if direction == "inbound" else "outbound" if direction.startswith("outbound") else None,
        caller=e164(fields.get("From") or fields.get("Caller")),
        callee=e164(fields.get("To") or fields.get("Called")),
        status=status,
        duration_seconds=_seconds(fields.get("CallDuration")) if is_terminal else None,
        started_at=at if status == "ringing" else None,
        answered_at=at if status == "answered" else None,
        ended_at=at if is_terminal else None,
    )
    return Event(name, kind, at, (fact,))


def _seconds(text: str | None) -> Decimal | None:
    """Raises `Unparsable` for a duration that is no number: the record is poison, not zero seconds long."""
    if not text:
        return None
    try:
        return Decimal(text).quantize(Decimal("0.001"))
    except InvalidOperation as error:
        raise Unparsable("CallDuration is not a number") from error


def _stream_event(source: str, event: dict[str, Any]) -> Event:
    """Event Streams say the time of a status, which form callbacks don't."""
    name = event_id(require_text(event.get("id"), "id"))
    kind = clean_type(event.get("type"))
    at = stream_time(event)
    if not kind.startswith(_STREAM_PREFIX):
        return Event(name, f"twilio.{kind}", at)
    found = StreamMessage.model_validate(event.get("data"))
    status = found.messageStatus.lower()
    if status not in MESSAGE_STATUSES:
        return Event(name, f"twilio.{kind}", at, error=UNKNOWN_STATUS)
    fact = Message(
        version=Version(at, 0, name),
        source=source,
        message_id=found.messageSid,
        provider="twilio",
        channel="mms" if found.messageSid.startswith("MM") else "sms",
        direction="outbound",
        status=status,
        error_code=None if found.errorCode is None else str(found.errorCode),
        sent_at=at if status == "sent" else None,
        delivered_at=at if status == "delivered" else None,
        read_at=at if status == "read" else None,
        failed_at=at if status in _FAILED else None,
        occurred_at=at,
    )
    return Event(name, f"twilio.{kind}", at, (fact,))
