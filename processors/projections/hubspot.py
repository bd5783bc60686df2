"""HubSpot events to CRM objects and their properties; one record may hold up to a hundred of them. Pure.

Association changes are ignored: they are about neither object's properties nor its existence. So are conversations,
which are not CRM objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from processors.projections.base import Event, project_each
from schemas.contact_facts import CREATION, DELETION, RESTORE, CrmObject, CrmProperty
from schemas.envelope import Record
from schemas.facts import CRM_OBJECTS, CRM_PROPERTIES
from schemas.lattice import Fact, Version
from schemas.providers.base import Payload, clean_type, require_text, time_of_milliseconds
from schemas.providers.batches import OTHER, other_id
from schemas.providers.hubspot import (
    HubSpotEvent,
    Merge,
    ObjectEvent,
    PropertyChange,
    batched_event_id,
    event_type,
    events,
    is_foreign,
)
from schemas.short_cache import cache_short

VERSION: Final = 2
WRITES: Final = (CRM_OBJECTS, CRM_PROPERTIES)

_GENERIC: Final = "object"
_OBJECT_TYPES: Final = {
    "0-1": "contact",
    "0-2": "company",
    "0-3": "deal",
    "0-5": "ticket",
    "0-7": "product",
    "0-8": "line_item",
}
"""The types that classic subscriptions (`ticket.creation`) have a name for, by the id that generic ones
(`object.creation`) give them. No other type has a classic name: it keeps its id.
https://developers.hubspot.com/docs/guides/api/crm/understanding-the-crm
"""
_CLASSIC: Final = frozenset(_OBJECT_TYPES.values())

_EXISTENCE: Final = {
    "creation": (True, CREATION),
    "restore": (True, RESTORE),
    "deletion": (False, DELETION),
    "privacyDeletion": (False, DELETION),
}
"""Change -> (whether the object exists, its rank within one millisecond)."""

_CHANGES: Final = frozenset({"propertyChange", "merge"})


@dataclass(frozen=True, slots=True)
class _Objects:
    """The objects of one type, as one event sees them."""

    source: str
    object_type: str
    event: HubSpotEvent

    def version(self, rank: int = 0) -> Version:
        return Version(self.event.occurredAt, rank, self.event.ordered_id)

    def fact(self, object_id: str, exists: bool | None = None, rank: int = 0) -> CrmObject:
        """Without `exists` the row is there all the same: an object may change before it is known to be created."""
        return CrmObject(
            version=self.version(rank),
            source=self.source,
            portal_id=self.event.portalId,
            object_type=self.object_type,
            object_id=object_id,
            exists=exists,
        )


def project(record: Record, payload: Payload) -> Iterator[Event]:
    if is_foreign(payload):
        yield Event(other_id(payload), f"hubspot.{OTHER}", None)
        return
    yield from project_each(record, events(payload), _project_event, _identify, _unread_type)


def _unread_type(data: dict[str, Any]) -> str | None:
    """The type of an event that makes no row: it may lack what the others are identified by."""
    name = event_type(data)
    return None if _is_read(name) else f"hubspot.{clean_type(name)}"


@cache_short(entries=1024, characters=128)
def _is_read(name: str) -> bool:
    kind, _, verb = name.partition(".")
    return (kind in _CLASSIC or kind == _GENERIC) and (verb in _EXISTENCE or verb in _CHANGES)


def _project_event(record: Record, data: dict[str, Any]) -> Event:
    name = event_type(data)
    facts = tuple(_facts(record.source, name, data)) if _is_read(name) else ()
    at = time_of_milliseconds(data.get("occurredAt"))
    return Event(batched_event_id(data), f"hubspot.{clean_type(name)}", at, facts)


def _identify(data: dict[str, Any]) -> tuple[str, str]:
    """(event id, type)."""
    return batched_event_id(data), f"hubspot.{clean_type(event_type(data))}"


def _facts(source: str, name: str, data: dict[str, Any]) -> Iterator[Fact]:
    kind, _, verb = name.partition(".")
    if verb in _EXISTENCE:
        event = ObjectEvent.model_validate(data)
        yield _Objects(source, _object_type(kind, data), event).fact(event.objectId, *_EXISTENCE[verb])
    elif verb == "propertyChange":
        change = PropertyChange.model_validate(data)
        objects = _Objects(source, _object_type(kind, data), change)
        changed = objects.fact(change.objectId)
        yield changed
        yield _property(changed, change)
    else:
        merge = Merge.model_validate(data)
        yield from _merge(_Objects(source, _object_type(kind, data), merge), merge)


def _object_type(kind: str, data: dict[str, Any]) -> str:
    if kind != _GENERIC:
        return kind
    type_id = require_text(data.get("objectTypeId"), "objectTypeId")
    name = type_id.lower()
    return name if name in _CLASSIC else _OBJECT_TYPES.get(type_id, type_id)


def _property(changed: CrmObject, change: PropertyChange) -> CrmProperty:
    return CrmProperty(
        version=changed.version,
        source=changed.source,
        portal_id=changed.portal_id,
        object_type=changed.object_type,
        object_id=changed.object_id,
        name=change.propertyName,
        value=change.propertyValue,
    )


def _merge(objects: _Objects, merge: Merge) -> Iterator[CrmObject]:
    """The result of a merge may be listed among the merged objects, and exists all the same."""
    survivor = merge.newObjectId or merge.primaryObjectId
    yield objects.fact(merge.primaryObjectId)
    for object_id in merge.mergedObjectIds:
        if object_id != survivor:
            yield objects.fact(object_id, False, DELETION)
    if merge.newObjectId is not None and merge.newObjectId != merge.primaryObjectId:
        yield objects.fact(merge.newObjectId, True, CREATION)
