"""What a plug-in's projection yields, before it is believed. Pure."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from processors.projections.base import Event
from schemas.envelope import Record
from schemas.errors import PoisonRecord
from schemas.facts import TABLE_OF
from schemas.lattice import Fact
from schemas.providers.base import MAX_ID_CHARACTERS, bounded_id
from schemas.providers.poison import poison_of
from schemas.providers.sound import is_name

_SOURCE: Final = "source"


def require_event(record: Record, yielded: Any, tables: frozenset[str]) -> Event:
    """The event, its id bounded; dead where a fact of it can't be written. `tables`: those that the projection writes.

    Raises `PoisonRecord` for what is no event, or can't be named.
    """
    if not isinstance(yielded, Event):
        raise PoisonRecord("projection_failed", f"the projection yields a {type(yielded).__name__}, and no Event")
    event_id, kind, at = yielded.event_id, yielded.type, yielded.occurred_at
    if not is_name(event_id) or not is_name(kind) or len(kind) > MAX_ID_CHARACTERS:
        raise PoisonRecord("projection_failed", "the id or the type of an event is empty, or not printable text")
    if not (at is None or (isinstance(at, datetime) and _is_storable(at))):
        raise PoisonRecord("projection_failed", "the time of an event is no datetime with a time zone")
    if not (yielded.error is None or isinstance(yielded.error, str)):
        raise PoisonRecord("projection_failed", "the error of an event is no text")
    name = event_id if len(event_id) <= MAX_ID_CHARACTERS else bounded_id(event_id)
    try:
        if yielded.poison is not None:
            raise yielded.poison
        facts = tuple([_require_fact(record, fact, tables) for fact in yielded.facts])
    except Exception as error:  # noqa: BLE001 - the other events of the record are folded
        return Event(name, kind, at, poison=poison_of(error))
    return Event(name, kind, at, facts, yielded.error)


def _require_fact(record: Record, fact: Any, tables: frozenset[str]) -> Fact:
    """Raises `PoisonRecord`."""
    table = TABLE_OF.get(type(fact))
    if table is None:
        raise PoisonRecord("projection_failed", f"a fact is a {type(fact).__name__}: no table holds it")
    if table.name not in tables:
        raise PoisonRecord("projection_failed", f"a fact is of table {table.name}, which WRITES does not name")
    if _SOURCE in table.keys and fact.source != record.source:
        raise PoisonRecord("projection_failed", f"{table.name}.{_SOURCE} is another source than the record's")
    for name in fact.__dataclass_fields__:
        if not _is_storable(getattr(fact, name)):
            raise PoisonRecord("projection_failed", f"{table.name}.{name} is not finite, or has no time zone")
    return fact  # type: ignore[no-any-return]


def _is_storable(value: Any) -> bool:
    """Whether Postgres takes a number or a time as it is meant. One without a zone means another time on each host."""
    if isinstance(value, Decimal):
        return value.is_finite()
    return not isinstance(value, datetime) or value.utcoffset() is not None
