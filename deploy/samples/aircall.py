"""Samples of Aircall."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample
from schemas.providers.aircall import MASK


def samples(_: str) -> Iterator[Sample]:
    """A customer calls; two agents are rung, one answers, and tags the call afterwards.

    The token is the sender's to fill in (`present_token`): a sample does not know it.
    """
    now = int(time.time())
    call: dict[str, Any] = {
        "id": secrets.randbelow(10**9),
        "direction": "inbound",
        "status": "initial",
        "missed_call_reason": None,
        "started_at": now,
        "answered_at": None,
        "ended_at": None,
        "duration": 0,
        "hangup_cause": None,
        "recording": None,
        "raw_digits": f"+33 6 12 34 {secrets.randbelow(100):02d} {secrets.randbelow(100):02d}",
        "number": {"id": 397375, "name": "Support FR", "digits": "+33 1 80 00 00 00", "country": "FR"},
        "tags": [],
    }
    yield _event("call.created", now, call)
    for agent in range(2):
        yield _event("call.ringing_on_agent", now + 4 * agent, {**call, "user": {"id": 731416 + agent}})
    call.update(status="answered", answered_at=now + 9)
    yield _event("call.answered", now + 9, call)
    call.update(status="done", ended_at=now + 138, duration=138)
    yield _event("call.hungup", now + 138, call)
    call["recording"] = f"https://assets.example.com/{call['id']}.mp3"
    yield _event("call.ended", now + 168, call)
    yield _event("call.tagged", now + 180, {**call, "tags": [{"id": 4471, "name": "Qualifié"}]})


def _event(kind: str, timestamp: int, call: dict[str, Any]) -> Sample:
    body = {"resource": "call", "event": kind, "timestamp": timestamp, "token": MASK, "data": call}
    return Sample(orjson.dumps(body), JSON)
