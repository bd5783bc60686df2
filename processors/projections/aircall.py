"""Aircall calls, from any of their events, in any order. Pure."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from processors.projections.base import Event, e164
from schemas.envelope import Record
from schemas.facts import CALLS, Call
from schemas.lattice import Version
from schemas.providers.aircall import AircallCall, aircall_event_id
from schemas.providers.base import Payload, time_of_seconds

VERSION: Final = 2
WRITES: Final = (CALLS,)

_STATUSES: Final = {"call.created": "ringing", "call.ringing_on_agent": "ringing", "call.answered": "answered"}
_ENDED: Final = "call.ended"
"""The last word: it comes half a minute after `call.hungup`, when all the data is there."""

READS: Final = frozenset(
    {
        *_STATUSES,
        _ENDED,
        *(
            f"call.{verb}"
            for verb in (
                "agent_declined",
                "hold",
                "unhold",
                "transferred",
                "unsuccessful_transfer",
                "external_transferred",
                "hungup",
                "voicemail_left",
                "assigned",
                "archived",
                "tagged",
                "untagged",
                "commented",
            )
        ),
    }
)
"""All of them carry the whole call: who, and when. A type that is not here is ignored."""


def project(record: Record, payload: Payload) -> Iterator[Event]:
    name, kind = aircall_event_id(payload), payload["event"]
    at = time_of_seconds(payload.get("timestamp"))
    if kind not in READS:
        yield Event(name, record.type, at)
        return
    found = AircallCall.model_validate(payload["data"])
    is_inbound, is_outbound = found.direction == "inbound", found.direction == "outbound"
    ours, theirs = e164(found.number.digits) if found.number else None, e164(found.raw_digits)
    status, duration, end_reason = _STATUSES.get(kind), None, None
    if kind == _ENDED:
        status = "missed" if found.answered_at is None else "completed"
        duration = None if found.duration is None else Decimal(found.duration)
        end_reason = found.missed_call_reason or found.hangup_cause
    fact = Call(
        version=Version(at, 0, name),
        source=record.source,
        call_id=str(found.id),
        provider="aircall",
        direction=found.direction if is_inbound or is_outbound else None,
        caller=theirs if is_inbound else ours if is_outbound else None,
        callee=ours if is_inbound else theirs if is_outbound else None,
        status=status,
        duration_seconds=duration,
        end_reason=None if end_reason is None else str(end_reason),
        recording_url=found.recording,
        started_at=time_of_seconds(found.started_at),
        answered_at=time_of_seconds(found.answered_at),
        ended_at=time_of_seconds(found.ended_at),
    )
    yield Event(name, record.type, at, (fact,))
