"""The registry of projections: provider, or type of a record -> pure function from a record to events with their facts.

Ours have the name of their provider; a plug-in's is added by `register`, also for a single type that ours ignore.
"""

import sys
from collections.abc import Iterable
from typing import Any, Final

from pydantic import ValidationError

from processors.projections import (
    aircall,
    google_calendar,
    hubspot,
    operator,
    retell,
    sendgrid,
    standardwebhooks,
    stripe,
    telnyx,
    twilio,
    whatsapp,
)
from processors.projections.base import Event, Projection
from processors.projections.sound import require_event
from schemas.envelope import Record
from schemas.errors import Misconfigured
from schemas.facts import TABLES
from schemas.lattice import Table
from schemas.providers import PROVIDERS, UNPARSABLE, fingerprint_by, read_payload, type_of
from schemas.providers.base import WRONG_SHAPE, Payload, Provider
from schemas.providers.poison import poison_of
from schemas.topics import OPERATOR

PROJECTIONS: Final[dict[str, Projection]] = {
    "stripe": stripe.project,
    "whatsapp": whatsapp.project,
    "twilio": twilio.project,
    "aircall": aircall.project,
    "hubspot": hubspot.project,
    "retell": retell.project,
    "telnyx": telnyx.project,
    "standardwebhooks": standardwebhooks.project,
    "sendgrid": sendgrid.project,
    "google_calendar": google_calendar.project,
}

OURS: Final = frozenset(PROJECTIONS)
"""The results of every other projection are checked before use."""

_LAST_VERSION: Final = 2**31 - 1

READS: Final[dict[str, frozenset[str]]] = {
    "stripe": stripe.READS,
    "aircall": aircall.READS,
    "retell": retell.READS,
    "telnyx": telnyx.READS,
    "standardwebhooks": standardwebhooks.READS,
    "google_calendar": frozenset(),
}
"""Provider whose records hold one event each -> the types that ours read. All its other types are a plug-in's to read;
those of WhatsApp, HubSpot, SendGrid and Twilio are not, because one record of theirs may hold events of several types.
"""


def register(key: str, projection: Projection) -> None:
    """Add a plug-in's projection of a new provider, or of one type (`stripe.customer.created`).

    The same one again changes nothing. Raises `Misconfigured` where ours already reads what `key` names.
    """
    if PROJECTIONS.get(key) is projection:
        return
    if key in PROJECTIONS:
        raise Misconfigured(f"{key!r} has a projection already")
    provider, _, kind = key.partition(".")
    if provider not in PROVIDERS:
        raise Misconfigured(f"no provider is called {provider!r}, so no record is a {key!r}")
    if kind and provider not in READS:
        raise Misconfigured(f"{key!r} can't be projected alone: only single types of {', '.join(READS)} can")
    if kind and kind in {*READS[provider], UNPARSABLE}:
        raise Misconfigured(f"redrive reads {key!r} itself: a projection can only be added for a type that it ignores")
    _require_versioned(key, projection)
    PROJECTIONS[key] = projection


def _require_versioned(key: str, projection: Projection) -> None:
    """`VERSION` and `WRITES` of its module must be what `versions` and `writes` read. Raises `Misconfigured`."""
    module = _module_of(projection)
    version, tables = getattr(module, "VERSION", 1), getattr(module, "WRITES", ())
    if type(version) is not int or not 1 <= version <= _LAST_VERSION:
        raise Misconfigured(f"VERSION of the projection of {key!r} must be a whole number from 1 to {_LAST_VERSION}")
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Table) for table in tables):
        raise Misconfigured(f"WRITES of the projection of {key!r} must be a list or tuple of schemas.lattice.Table")


def versions() -> dict[str, int]:
    """The `VERSION` of each projection's module: it grows whenever the same record comes to mean other rows.

    1 for a plug-in that says none.
    """
    return {key: getattr(module, "VERSION", 1) for key, module in modules().items()}


def writes() -> dict[str, frozenset[str]]:
    """The fact tables that each projection's rows go to; all of them for a plug-in that has no `WRITES`."""
    return {key: _tables_of(module) for key, module in modules().items()}


def _tables_of(module: object) -> frozenset[str]:
    tables: Iterable[Table[Any]] = getattr(module, "WRITES", TABLES)
    return frozenset([table.name for table in tables])


def modules() -> dict[str, object]:
    """The module of each projection, the operators' included; None for a plug-in's that is not a function."""
    found: dict[str, object] = {key: _module_of(one) for key, one in PROJECTIONS.items()}
    return {**found, "operator": operator}


def _module_of(projection: Projection) -> object:
    return sys.modules.get(getattr(projection, "__module__", ""))


def project(record: Record) -> tuple[list[Event], bytes]:
    """A record's events and its fingerprint.

    Raises `PoisonRecord`: `unparsable`, `unknown_provider`, or `invalid_payload` for a body of a known type that does
    not hold what that type holds.
    """
    # By the topic, and not by what a header says: no delivery can pass for an operator's word.
    if record.location.topic == OPERATOR:
        return operator.project(record)
    provider, payload = read_payload(record)
    # Before the projection: a plug-in's may change what it is handed.
    fingerprint = fingerprint_by(provider, payload, record.record_id)
    key = record.type if record.type in PROJECTIONS else provider.name
    try:
        events = list(PROJECTIONS[key](record, payload))
        if key not in OURS:
            tables = _tables_of(_module_of(PROJECTIONS[key]))
            events = [require_event(record, event, tables) for event in events]
    except WRONG_SHAPE as error:
        unread = _unread_type(provider, payload)
        if unread is not None:
            return [Event(record.record_id, unread, None)], fingerprint
        is_unparsable = record.type.endswith("." + UNPARSABLE) and not isinstance(error, ValidationError)
        raise poison_of(error, "unparsable" if is_unparsable else "invalid_payload") from error
    return events, fingerprint


def _unread_type(provider: Provider, payload: Payload) -> str | None:
    """The type of an event that no projection reads, so that nobody misses the identity that can't be made of it."""
    try:
        kind = type_of(provider, payload)
    except WRONG_SHAPE:
        return None
    is_read = kind in PROJECTIONS or kind.partition(".")[2] in READS.get(provider.name, ())
    return None if is_read or provider.name not in READS else kind
