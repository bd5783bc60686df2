"""Checks of the events of a plug-in's projection, before they are used. Pure."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from processors.projections.base import Event
from schemas.envelope import Record
from schemas.errors import PoisonRecord
from schemas.facts import TABLE_OF
from schemas.lattice import Fact, Version
from schemas.providers.base import MAX_ID_CHARACTERS, bounded_id
from schemas.providers.poison import poison_of
from schemas.providers.sound import is_name, plain

_SOURCE: Final = "source"


def require_event(record: Record, yielded: Any, tables: frozenset[str]) -> Event:
    """The event, its id bounded; dead if a fact of it can't be written. `tables`: those that the projection writes.

    Raises `PoisonRecord` for a value that is not an event or can't be named, and any error of the plug-in's own types.
    """
    if not isinstance(yielded, Event):
        raise PoisonRecord("projection_failed", f"the projection yields a {type(yielded).__name__}, not an Event")
    event_id, kind, error = plain(yielded.event_id), plain(yielded.type), plain(yielded.error)
    at = _time(yielded.occurred_at, "the time of an event")
    if not is_name(event_id) or not is_name(kind) or len(kind) > MAX_ID_CHARACTERS:
        raise PoisonRecord("projection_failed", "the id or the type of an event is empty, or not printable text")
    if not (at is None or (isinstance(at, datetime) and _is_storable(at))):
        raise PoisonRecord("projection_failed", "the time of an event is not a datetime with a time zone")
    if not (error is None or type(error) is str):
        raise PoisonRecord("projection_failed", "the error of an event is not text")
    name = event_id if len(event_id) <= MAX_ID_CHARACTERS else bounded_id(event_id)
    try:
        if yielded.poison is not None:
            raise yielded.poison
        facts = tuple([_require_fact(record, fact, tables) for fact in yielded.facts])
    except Exception as failed:  # noqa: BLE001 - the other events of the record are folded
        return Event(name, kind, at, poison=poison_of(failed))
    return Event(name, kind, at, facts, error)


def _require_fact(record: Record, fact: Any, tables: frozenset[str]) -> Fact:
    """Raises `PoisonRecord`."""
    table = TABLE_OF.get(type(fact))
    if table is None:
        raise PoisonRecord("projection_failed", f"a fact is a {type(fact).__name__}: no table holds it")
    if table.name not in tables:
        raise PoisonRecord("projection_failed", f"a fact is of table {table.name}, which WRITES does not name")
    if _SOURCE in table.keys and plain(fact.source) != record.source:
        raise PoisonRecord("projection_failed", f"{table.name}.{_SOURCE} is another source than the record's")
    changed = {}
    for name in fact.__dataclass_fields__:
        value = getattr(fact, name)
        if not _is_storable(value):
            raise PoisonRecord("projection_failed", f"{table.name}.{name} is not finite, or has no time zone")
        stored = _version(value, table.name) if type(value) is Version else _time(value, f"{table.name}.{name}")
        if stored is not value:
            changed[name] = stored
    return replace(fact, **changed) if changed else fact  # type: ignore[no-any-return]


def _version(version: Version, table: str) -> Version:
    return Version(_time(version.at, f"{table}.version"), plain(version.rank), plain(version.id))


def _time(value: Any, what: str) -> Any:
    """Raises `PoisonRecord`."""
    try:
        return plain(value)
    except OverflowError as error:
        raise PoisonRecord("projection_failed", f"{what} is out of range: in UTC, years 1 to 9999") from error


def _is_storable(value: Any) -> bool:
    """Whether Postgres takes a number or a time as it is meant. One without a zone means another time on each host."""
    if isinstance(value, Decimal):
        return value.is_finite()
    return not isinstance(value, datetime) or value.utcoffset() is not None
