"""Deliveries of several events, and what comes in their place to the same address."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, TypeVar

from schemas.envelope import Identity
from schemas.providers.base import Payload, Unparsable, digest_of, event_id

OTHER: Final = "other"
"""Type of a delivery that is not of the events that its provider's projection reads: `hubspot.other`."""


MAX_EVENTS: Final = 20_000
"""The limit of one delivery, which is identified and folded at once. HubSpot sends 100, WhatsApp 1,000; a body of
Meta's 3 MB holds fewer of even the shortest events of a history.
"""

Listed = TypeVar("Listed")


def bounded(events: Iterable[Listed]) -> list[Listed]:
    """The events of a delivery, counted before any of them is looked at. Raises `Unparsable` where they are too many:
    then the bytes name the record, and it is one dead letter.
    """
    found = list(islice(events, MAX_EVENTS + 1))
    if len(found) > MAX_EVENTS:
        raise Unparsable(f"the body: more than {MAX_EVENTS:,} events; expected at most so many in one delivery")
    return found


def listed(payload: Payload, *marks: str) -> list[Any]:
    """The events of a list, or of one that comes alone: an object with one of the fields that mark an event."""
    if isinstance(payload, dict) and not is_other(payload, *marks):
        return [payload]
    if not isinstance(payload, list) or not payload:
        raise Unparsable("the body: not a list of events")
    return bounded(payload)


def is_other(payload: Payload, *marks: str) -> bool:
    """True for an object of another kind, such as the request of a workflow: nobody reads it."""
    return isinstance(payload, dict) and not any(payload.get(mark) for mark in marks)


def other_id(payload: Payload) -> str:
    """It has no id that is known: it is what it says."""
    return event_id(OTHER, digest_of(payload).hex())


def other_identity(provider: str, payload: Payload) -> Identity:
    return Identity(other_id(payload), f"{provider}.{OTHER}", None, digest_of(payload))
