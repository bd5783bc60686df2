"""Deliveries of several events, and what comes in their place to the same address."""

from typing import Any, Final

from schemas.envelope import Identity
from schemas.providers.base import Payload, Unparsable, digest_of, event_id

OTHER: Final = "other"
"""Type of a delivery that is not of the events that its provider's projection reads: `hubspot.other`."""


def listed(payload: Payload, *marks: str) -> list[Any]:
    """The events of a list, or of one that comes alone: an object with one of the fields that mark an event."""
    if isinstance(payload, dict) and not is_other(payload, *marks):
        return [payload]
    if not isinstance(payload, list) or not payload:
        raise Unparsable("the body: not a list of events")
    return payload


def is_other(payload: Payload, *marks: str) -> bool:
    """Whether it is an object of another kind, such as the request of a workflow: nobody reads it."""
    return isinstance(payload, dict) and not any(payload.get(mark) for mark in marks)


def other_id(payload: Payload) -> str:
    """It has no id that is known: it is what it says."""
    return event_id(OTHER, digest_of(payload).hex())


def other_identity(provider: str, payload: Payload) -> Identity:
    return Identity(other_id(payload), f"{provider}.{OTHER}", None, digest_of(payload))
