"""Samples of Telnyx."""

import secrets
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample

_OURS = "+33644601234"


def samples(_: str) -> Iterator[Sample]:
    """An SMS comes in, one goes out and arrives, and a call is taken."""
    now, customer = time.time(), f"+3361234{secrets.randbelow(10_000):04d}"
    inbound = _message(customer, _OURS, now, "Bonjour, vous êtes ouverts demain ?")
    yield _event("message.received", now, inbound)
    outbound = _message(_OURS, customer, now + 5, "Oui, de 9 h à 18 h") | {"sent_at": _iso(now + 5.1)}
    yield _event("message.sent", now + 5.1, outbound)
    arrived = {"completed_at": _iso(now + 7), "to": [{"phone_number": customer, "status": "delivered"}]}
    yield _event("message.finalized", now + 7, outbound | arrived)
    leg = {
        "call_leg_id": str(uuid.uuid4()),
        "call_session_id": str(uuid.uuid4()),
        "from": customer,
        "to": _OURS,
        "start_time": _iso(now + 60),
    }
    yield _event("call.initiated", now + 60, {**leg, "direction": "incoming", "state": "parked"})
    yield _event("call.answered", now + 67.4, leg)
    yield _event("call.hangup", now + 196.2, {**leg, "hangup_cause": "normal_clearing", "hangup_source": "caller"})


def _message(sender: str, recipient: str, received_at: float, text: str) -> dict[str, Any]:
    is_inbound = recipient == _OURS
    return {
        "id": str(uuid.uuid4()),
        "record_type": "message",
        "direction": "inbound" if is_inbound else "outbound",
        "type": "SMS",
        "from": {"phone_number": sender},
        "to": [{"phone_number": recipient, "status": "webhook_delivered" if is_inbound else "sent"}],
        "text": text,
        "media": [],
        "errors": [],
        "received_at": _iso(received_at),
    }


def _event(kind: str, when: float, payload: dict[str, Any]) -> Sample:
    data = {
        "event_type": kind,
        "id": str(uuid.uuid4()),
        "occurred_at": _iso(when),
        "payload": payload,
        "record_type": "event",
    }
    return Sample(orjson.dumps({"data": data, "meta": {"attempt": 1, "delivered_to": "https://localhost/"}}), JSON)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
