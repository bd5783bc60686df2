"""Telnyx messages and calls. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from processors.projections.addresses import phone_number
from processors.projections.base import NO_MESSAGE, UNKNOWN_STATUS, Event, is_opt_out, is_opt_out_button
from processors.projections.content import ABOUT_ANOTHER, says_stop, text_of
from schemas.envelope import Record
from schemas.facts import CALLS, MESSAGES, Call, Message
from schemas.lattice import Version
from schemas.providers.base import Payload, Unparsable, clean_type, event_id, require_text, time_of_iso
from schemas.providers.models import require_object
from schemas.providers.telnyx import MessageError, Party, TelnyxCall, TelnyxMessage, event_data

VERSION: Final = 2
WRITES: Final = (CALLS, MESSAGES)

_FINAL_STATUSES: Final = {
    "queued": "queued",
    "sending": "sending",
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "delivery_unconfirmed": "sent",
    "delivery_failed": "failed",
    "sending_failed": "failed",
    "expired": "undelivered",
}
_FAILED: Final = frozenset({"failed", "undelivered"})
_CHANNELS: Final = {"SMS": "sms", "MMS": "mms", "WHATSAPP": "whatsapp", "RCS": "rcs"}

_DIRECTIONS: Final = {"incoming": "inbound", "outgoing": "outbound"}
_CALL_STATUSES: Final = {"call.initiated": "ringing", "call.answered": "answered"}


def project(record: Record, payload: Payload) -> Iterator[Event]:
    data = event_data(payload)
    name = event_id(require_text(data.get("id"), "data.id"))
    kind = clean_type(data.get("event_type"))
    at = time_of_iso(data.get("occurred_at"))
    event = Event(name, f"telnyx.{kind}", at)
    rule = _RULES.get(kind)
    if rule is None:
        yield event
        return
    if at is None:
        raise Unparsable("data.occurred_at: missing, or not a time")
    yield rule(record.source, event, at, require_object(data.get("payload"), "data.payload"))


def _received(source: str, event: Event, at: datetime, data: dict[str, Any]) -> Event:
    found = TelnyxMessage.model_validate(data)
    if isinstance(found.body, dict) and found.body.get("type") in ABOUT_ANOTHER:
        return replace(event, error=NO_MESSAGE)
    ours, peer = _address(found.to[0]), _address(found.sender)
    fact = Message(
        version=Version(at, 0, event.event_id),
        source=source,
        message_id=found.id,
        provider="telnyx",
        channel=_channel(found),
        direction="inbound",
        sender=peer,
        recipient=ours,
        our_number=ours,
        peer_number=peer,
        kind=_kind(found),
        body=_text(found),
        status="received",
        is_opt_out=_says_stop(found),
        occurred_at=time_of_iso(found.received_at) or at,
    )
    return replace(event, facts=(fact,))


def _outbound(source: str, event: Event, at: datetime, data: dict[str, Any]) -> Event:
    """`message.sent` says what it is; `message.finalized` says it of each recipient: of the first, for a group."""
    found = TelnyxMessage.model_validate(data)
    status: str | None = "sent"
    if event.type == "telnyx.message.finalized":
        said = found.to[0].status or ""
        status = _FINAL_STATUSES.get(said)
        if status is None:
            return replace(event, error=UNKNOWN_STATUS)
    ours, peer = _address(found.sender), _address(found.to[0])
    ended_at = time_of_iso(found.completed_at) or at
    code, text = _error(found.errors if status in _FAILED else found.if_readable("errors"))
    fact = Message(
        version=Version(at, 0, event.event_id),
        source=source,
        message_id=found.id,
        provider="telnyx",
        channel=_channel(found),
        direction="outbound",
        sender=ours,
        recipient=peer,
        our_number=ours,
        peer_number=peer,
        kind=_kind(found),
        body=_text(found),
        status=status,
        error_code=code,
        error_message=text,
        sent_at=time_of_iso(found.sent_at),
        delivered_at=ended_at if status == "delivered" else None,
        read_at=ended_at if status == "read" else None,
        failed_at=ended_at if status in _FAILED else None,
        # When Telnyx took the message on: the first thing that happens to it, and the same in all of its events.
        occurred_at=time_of_iso(found.received_at) or at,
    )
    return replace(event, facts=(fact,))


def _address(party: Party) -> str | None:
    return phone_number(party.phone_number) or party.agent_id or None


def _text(message: TelnyxMessage) -> str | None:
    """RCS has it in `body`, WhatsApp there as Meta writes it. A tapped suggestion of RCS is its text."""
    if message.text or not isinstance(message.body, dict):
        return message.text or None
    return _written(message.body) or _suggestion(message.body) or text_of(message.body)


def _says_stop(message: TelnyxMessage) -> bool:
    if message.text or not isinstance(message.body, dict):
        return is_opt_out(message.text)
    body = message.body
    return is_opt_out(_written(body)) or is_opt_out_button(_suggestion(body)) or says_stop(body)


def _written(body: dict[str, Any]) -> str | None:
    found = body.get("text")
    return found if isinstance(found, str) else None


def _suggestion(body: dict[str, Any]) -> str | None:
    suggestion = body.get("suggestion_response")
    found = suggestion.get("text") if isinstance(suggestion, dict) else None
    return found if isinstance(found, str) else None


def _channel(message: TelnyxMessage) -> str | None:
    return _CHANNELS.get(message.type or "")


def _kind(message: TelnyxMessage) -> str:
    if not message.media:
        return "text"
    family = (message.media[0].content_type or "").partition("/")[0]
    return family if family in ("image", "audio", "video") else "document"


def _error(errors: tuple[MessageError, ...] | None) -> tuple[str | None, str | None]:
    if not errors:
        return None, None
    first = errors[0]
    return None if first.code is None else str(first.code), first.detail or first.title


def _call(source: str, event: Event, at: datetime, data: dict[str, Any]) -> Event:
    """A hangup says neither whether there was an answer, which may come later, nor how long the call was.

    The view makes it `completed`, and derives both durations, once both times are there.
    """
    found = TelnyxCall.model_validate(data)
    kind = event.type.removeprefix("telnyx.")
    is_hangup = kind == "call.hangup"
    cause = found.hangup_cause if is_hangup else None
    ending = "busy" if cause == "user_busy" else "no-answer"
    fact = Call(
        version=Version(at, 0, event.event_id),
        source=source,
        call_id=found.call_leg_id,
        provider="telnyx",
        direction=_DIRECTIONS.get(found.direction or ""),
        caller=phone_number(found.caller),
        callee=phone_number(found.callee),
        status=ending if is_hangup else _CALL_STATUSES[kind],
        end_reason=cause,
        # Every phase repeats when the call started, so that it is known without the first one too.
        started_at=time_of_iso(found.start_time) or (at if kind == "call.initiated" else None),
        answered_at=at if kind == "call.answered" else None,
        ended_at=at if is_hangup else None,
    )
    return replace(event, facts=(fact,))


def _recording(source: str, event: Event, at: datetime, data: dict[str, Any]) -> Event:
    """Public URLs last as long as the file, and few accounts have them; the others end after ten minutes."""
    found = TelnyxCall.model_validate(data)
    offered = [urls for urls in (found.public_recording_urls, found.recording_urls) if urls is not None]
    url = next((url for urls in offered for url in (urls.mp3, urls.wav) if url), None)
    if url is None:
        return replace(event, error="a recording without a URL")
    version = Version(at, 0, event.event_id)
    fact = Call(version=version, source=source, call_id=found.call_leg_id, provider="telnyx", recording_url=url)
    return replace(event, facts=(fact,))


_RULES: Final[dict[str, Callable[[str, Event, datetime, dict[str, Any]], Event]]] = {
    "message.received": _received,
    "message.sent": _outbound,
    "message.finalized": _outbound,
    "call.initiated": _call,
    "call.answered": _call,
    "call.hangup": _call,
    "call.recording.saved": _recording,
}
READS: Final = frozenset(_RULES)
