"""Retell calls: started, ended, analyzed, in any order. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Final

from processors.projections.base import Event, e164
from schemas.envelope import Record
from schemas.facts import CALLS, Call
from schemas.lattice import Version
from schemas.providers.base import Payload, time_of_milliseconds
from schemas.providers.retell import RetellCall, event_time, retell_event_id, subject

VERSION: Final = 2
WRITES: Final = (CALLS,)

_OUTCOMES: Final = {"not_connected": "no-answer", "error": "failed"}
"""`call_status` -> how the call ended; one that ended in any other way is completed."""


def _started(call: Call, found: RetellCall) -> Call:
    """There is no such event for a call that never connects: it starts when it is answered."""
    at = time_of_milliseconds(found.start_timestamp)
    return replace(call, status="answered", started_at=at, answered_at=at)


def _ended(call: Call, found: RetellCall) -> Call:
    status = _OUTCOMES.get(found.call_status or "", "completed")
    started_at = time_of_milliseconds(found.start_timestamp)
    return replace(
        call,
        status=status,
        duration_seconds=None if found.duration_ms is None else Decimal(found.duration_ms).scaleb(-3),
        end_reason=found.disconnection_reason,
        started_at=started_at,
        answered_at=started_at if status == "completed" else None,
        ended_at=time_of_milliseconds(found.end_timestamp),
    )


def _analyzed(call: Call, found: RetellCall) -> Call:
    """It may come before `call_ended`, whose word on the outcome it does not take."""
    analysis = found.call_analysis
    if analysis is None:
        return call
    return replace(call, summary=analysis.call_summary, sentiment=analysis.user_sentiment)


_RULES: Final[dict[str, tuple[int, Callable[[Call, RetellCall], Call]]]] = {
    "call_started": (0, _started),
    "call_ended": (1, _ended),
    "call_analyzed": (2, _analyzed),
}
"""Event -> (rank among those of one millisecond, what it adds). Others (transcripts, transfers, chats) are ignored."""

READS: Final = frozenset(_RULES)


def project(record: Record, payload: Payload) -> Iterator[Event]:
    name, at = retell_event_id(payload), event_time(payload)
    rule = _RULES.get(payload["event"])
    if rule is None:
        yield Event(name, record.type, at)
        return
    rank, add = rule
    found = RetellCall.model_validate(subject(payload))
    call = Call(
        version=Version(at, rank, name),
        source=record.source,
        call_id=found.call_id,
        provider="retell",
        direction=found.direction if found.direction in ("inbound", "outbound") else None,
        caller=e164(found.from_number),
        callee=e164(found.to_number),
        recording_url=found.recording_url,
    )
    yield Event(name, record.type, at, (add(call, found),))
