"""Samples of Retell."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample, token


def samples(_: str) -> Iterator[Sample]:
    """The agent calls a customer: it starts, ends, is analyzed; a second one is not answered, and never starts."""
    now = time.time_ns() // 1_000_000
    customer = f"+3361234{secrets.randbelow(10_000):04d}"
    call = _call(customer, start_timestamp=now)
    yield _event("call_started", {**call, "call_status": "ongoing"})
    call |= {
        "call_status": "ended",
        "end_timestamp": now + 128_791,
        "duration_ms": 128_791,
        "disconnection_reason": "user_hangup",
        "recording_url": f"https://recordings.example.com/{call['call_id']}.wav",
    }
    yield _event("call_ended", call)
    analysis = {"call_summary": "La cliente confirme son rendez-vous.", "user_sentiment": "Positive"}
    yield _event("call_analyzed", {**call, "call_analysis": analysis})
    missed = {
        "call_status": "not_connected",
        "end_timestamp": now + 30_000,
        "duration_ms": 0,
        "disconnection_reason": "dial_no_answer",
    }
    yield _event("call_ended", {**_call(customer), **missed})


def _call(customer: str, **more: Any) -> dict[str, Any]:
    return {
        "call_id": token(32),
        "call_type": "phone_call",
        "agent_id": "oBeDLoLOeuAbiuaMFXRtDOLriTJ5tSxD",
        "direction": "outbound",
        "from_number": "+33644601234",
        "to_number": customer,
        **more,
    }


def _event(kind: str, call: dict[str, Any]) -> Sample:
    return Sample(orjson.dumps({"event": kind, "call": call}), JSON)
