"""Calls over WhatsApp, from their events (`connect`, `terminate`) and, of those that we make, their statuses. Pure."""

from dataclasses import replace
from decimal import Decimal
from typing import Final

from processors.projections.addresses import whatsapp_number
from processors.projections.base import UNKNOWN_STATUS, Event
from schemas.facts import Call
from schemas.lattice import Version
from schemas.providers.base import time_of_seconds
from schemas.providers.whatsapp import WhatsAppItem
from schemas.providers.whatsapp_models import WhatsAppCall, WhatsAppStatus, error_of

_DIRECTIONS: Final = {"USER_INITIATED": "inbound", "BUSINESS_INITIATED": "outbound"}
_STATUSES: Final = {"RINGING": "ringing", "ACCEPTED": "answered", "REJECTED": "busy"}


def project_call(source: str, our_number: str | None, item: WhatsAppItem, name: str, kind: str) -> Event:
    found = WhatsAppCall.model_validate(item.data)
    at = time_of_seconds(found.timestamp)
    caller, callee = whatsapp_number(found.caller), whatsapp_number(found.callee)
    direction = _DIRECTIONS.get(found.direction or "")
    if direction is None and our_number is not None:
        direction = "outbound" if caller == our_number else "inbound" if callee == our_number else None
    call = Call(
        version=Version(at, 0, name),
        source=source,
        call_id=found.id,
        provider="whatsapp",
        direction=direction,
        caller=caller or (our_number if direction == "outbound" else None),
        callee=callee or (our_number if direction == "inbound" else None),
    )
    if found.event == "connect":
        return Event(name, kind, at, (replace(call, status="ringing", started_at=at),))
    if found.event != "terminate" or found.status not in ("COMPLETED", "FAILED", None):
        return Event(name, kind, at, error=UNKNOWN_STATUS)
    return Event(name, kind, at, (_ended(call, found),))


def _ended(call: Call, found: WhatsAppCall) -> Call:
    """A call is COMPLETED also where nobody took it: it was answered if it says when it started."""
    started_at, ended_at = time_of_seconds(found.start_time), time_of_seconds(found.end_time)
    is_answered = started_at is not None or bool(found.duration)
    unanswered = "missed" if call.direction == "inbound" else "no-answer"
    duration = None if found.duration is None else Decimal(found.duration)
    if duration is None and started_at is not None and ended_at is not None:
        duration = Decimal(max(int((ended_at - started_at).total_seconds()), 0))
    code, reason = error_of(found.errors if found.status == "FAILED" else found.if_readable("errors") or ())
    return replace(
        call,
        status="failed" if found.status == "FAILED" else "completed" if is_answered else unanswered,
        duration_seconds=duration if duration is not None or is_answered else Decimal(0),
        end_reason=reason or code,
        started_at=started_at,
        answered_at=started_at,
        ended_at=ended_at or call.version.at,
    )


def project_call_status(source: str, our_number: str | None, item: WhatsAppItem, name: str, kind: str) -> Event:
    """Only calls that we make have statuses; who declines one is busy."""
    found = WhatsAppStatus.model_validate(item.data)
    at, status = time_of_seconds(found.timestamp), _STATUSES.get(found.status)
    if status is None:
        return Event(name, kind, at, error=UNKNOWN_STATUS)
    call = Call(
        version=Version(at, 0, name),
        source=source,
        call_id=found.id,
        provider="whatsapp",
        direction="outbound",
        caller=our_number,
        callee=whatsapp_number(found.recipient_id),
        status=status,
        started_at=at if status == "ringing" else None,
        answered_at=at if status == "answered" else None,
        ended_at=at if status == "busy" else None,
    )
    return Event(name, kind, at, (call,))
