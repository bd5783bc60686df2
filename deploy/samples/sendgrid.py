"""Samples of SendGrid."""

import time
from collections.abc import Iterator
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample, token


def samples(customer: str) -> Iterator[Sample]:
    """An e-mail is sent, arrives and is opened; another one bounces."""
    now = int(time.time())
    read, bounced = _message(f"{customer}@example.com"), _message(f"{customer}@gone.example")
    yield _batch(
        {**read, "event": "processed", "timestamp": now},
        {**bounced, "event": "processed", "timestamp": now},
        {**read, "event": "delivered", "timestamp": now + 2, "response": "250 OK"},
    )
    failure = {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 The account does not exist"}
    yield _batch(
        {**read, "event": "open", "timestamp": now + 60, "sg_machine_open": False},
        {**bounced, "event": "bounce", "timestamp": now + 3, **failure},
    )


def _message(email: str) -> dict[str, Any]:
    return {"email": email, "sg_message_id": f"{token(22)}.filterdrecv-{token(10)}-1.0"}


def _batch(*events: dict[str, Any]) -> Sample:
    """SendGrid ends its bodies with CRLF, and signs that too."""
    named = [{**event, "sg_event_id": token(32)} for event in events]
    return Sample(orjson.dumps(named) + b"\r\n", JSON)
