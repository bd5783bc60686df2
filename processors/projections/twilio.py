"""Twilio messages and calls, from form callbacks and Event Streams. Pure."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from processors.projections.addresses import channel_address, phone_number
from processors.projections.base import NO_MESSAGE, UNKNOWN_STATUS, Event, is_opt_out, is_opt_out_button, project_each
from processors.projections.content import ABOUT_ANOTHER
from schemas.envelope import Record
from schemas.facts import CALLS, MESSAGE_STATUSES, MESSAGES, Call, Message
from schemas.lattice import Version
from schemas.providers.base import Payload, Unparsable, body_record_id, clean_type, require_text
from schemas.providers.models import require_object
from schemas.providers.twilio import (
    INBOUND,
    StreamMessage,
    form_fields,
    form_identity,
    form_time,
    is_event_stream,
    is_other_json,
    stream_event_id,
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
    if is_other_json(payload):
        yield _other(record, "JSON of another product, not a CloudEvent")
        return
    if is_event_stream(payload):
        yield from project_each(record, stream_events(payload), _stream_event, _identify_stream_event, _unread_type)
        return
    fields = form_fields(payload)
    try:
        name, kind = form_identity(fields)
    except Unparsable as error:
        if not fields:
            raise
        yield _other(record, str(error))
        return
    rule = _call if kind.startswith("call.") else _message
    yield rule(record.source, name, f"twilio.{kind}", fields)


def _other(record: Record, reason: str) -> Event:
    """Callbacks of other products (Conversations, recordings, conferences) are stored, indexed, read by nobody."""
    body = record.body or record.query.encode("utf-8", "surrogateescape")
    return Event(body_record_id(body), "twilio.other", None, error=reason)


def _message(source: str, name: str, kind: str, fields: dict[str, str]) -> Event:
    """SMS callbacks carry no time: their order is the rank of their statuses."""
    status = (fields.get("MessageStatus") or fields.get("SmsStatus") or "received").lower()
    if status not in MESSAGE_STATUSES:
        return Event(name, kind, None, error=UNKNOWN_STATUS)
    is_inbound = status in INBOUND
    if is_inbound and fields.get("MessageType") in ABOUT_ANOTHER:
        return Event(name, kind, None, error=NO_MESSAGE)
    channel, sender, recipient = _addresses(fields)
    fact = Message(
        version=Version(None, 0, name),
        source=source,
        message_id=fields["MessageSid"],
        provider="twilio",
        channel=channel,
        direction="inbound" if is_inbound else "outbound",
        sender=sender,
        recipient=recipient,
        our_number=recipient if is_inbound else sender,
        peer_number=sender if is_inbound else recipient,
        kind=_kind(fields) if is_inbound else None,
        body=_text(fields) if is_inbound else None,
        status=status,
        error_code=fields.get("ErrorCode") or None,
        error_message=fields.get("ErrorMessage") or None,
        is_opt_out=is_inbound and _is_opt_out(fields),
    )
    return Event(name, kind, None, (fact,))


def _addresses(fields: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    """(channel, sender, recipient). The scheme of either address names the channel; numbers without one are SMS."""
    (ours, sender), (theirs, recipient) = channel_address(fields.get("From")), channel_address(fields.get("To"))
    if ":" in fields.get("From", "") or ":" in fields.get("To", ""):
        return ours or theirs, sender, recipient
    return "mms" if fields["MessageSid"].startswith("MM") or _has_media(fields) else "sms", sender, recipient


def _text(fields: dict[str, str]) -> str | None:
    """A tapped button of WhatsApp has its text apart, and a place that was sent its name or its address."""
    found = [fields[name] for name in ("Body", "ButtonText", "Label", "Address") if fields.get(name)]
    return found[0] if found else None


def _is_opt_out(fields: dict[str, str]) -> bool:
    """What Twilio has made of the words decides: an account's keywords may differ from the usual ones."""
    said = fields.get("OptOutType")
    if said:
        return said == "STOP"
    if fields.get("ButtonText") or fields.get("ButtonPayload"):
        return is_opt_out_button(fields.get("Body") or fields.get("ButtonText"))
    return is_opt_out(fields.get("Body"))


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
        caller=phone_number(fields.get("From") or fields.get("Caller")),
        callee=phone_number(fields.get("To") or fields.get("Called")),
        status=status,
        duration_seconds=_seconds(fields.get("CallDuration")) if is_terminal else None,
        started_at=at if status == "ringing" else None,
        answered_at=at if status == "answered" else None,
        ended_at=at if is_terminal else None,
    )
    return Event(name, kind, at, (fact,))


def _seconds(text: str | None) -> Decimal | None:
    """Raises `Unparsable` for a duration that is not a number: the record is poison, not zero seconds long."""
    if not text:
        return None
    try:
        seconds = Decimal(text).quantize(Decimal("0.001"))
    except InvalidOperation as error:
        raise Unparsable("CallDuration: not a number of seconds") from error
    if not seconds.is_finite():
        raise Unparsable("CallDuration: not a number of seconds")
    return seconds


def _identify_stream_event(event: dict[str, Any]) -> tuple[str, str]:
    """(event id, type)."""
    return stream_event_id(event), f"twilio.{clean_type(event.get('type'))}"


def _unread_type(event: dict[str, Any]) -> str | None:
    kind = require_text(event.get("type"), "type")
    return None if clean_type(kind).startswith(_STREAM_PREFIX) else f"twilio.{clean_type(kind)}"


def _stream_event(record: Record, event: dict[str, Any]) -> Event:
    """Event Streams say the time of a status, which form callbacks don't."""
    name = stream_event_id(event)
    kind = clean_type(event.get("type"))
    at = stream_time(event)
    if not kind.startswith(_STREAM_PREFIX):
        return Event(name, f"twilio.{kind}", at)
    found = StreamMessage.model_validate(require_object(event.get("data"), "data"))
    status = found.messageStatus.lower()
    if status not in MESSAGE_STATUSES:
        return Event(name, f"twilio.{kind}", at, error=UNKNOWN_STATUS)
    fact = Message(
        version=Version(at, 0, name),
        source=record.source,
        message_id=found.messageSid,
        provider="twilio",
        channel="mms" if found.messageSid.startswith("MM") else "sms",
        direction="outbound",
        status=status,
        error_code=str(found.errorCode) if status in _FAILED and found.errorCode is not None else None,
        sent_at=at if status == "sent" else None,
        delivered_at=at if status == "delivered" else None,
        read_at=at if status == "read" else None,
        failed_at=at if status in _FAILED else None,
        occurred_at=at,
    )
    return Event(name, f"twilio.{kind}", at, (fact,))
