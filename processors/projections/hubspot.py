"""HubSpot events to CRM objects and their properties; one record may hold up to a hundred of them. Pure.

Association changes are ignored: they say nothing of either object, neither its properties nor whether it exists. So
are conversations, which are no CRM objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from processors.projections.base import Event
from schemas.envelope import Record
from schemas.facts import CREATION, CRM_OBJECTS, CRM_PROPERTIES, DELETION, RESTORE, CrmObject, CrmProperty
from schemas.lattice import Fact, Version
from schemas.providers.base import Payload, clean_type, require_text, time_of_milliseconds
from schemas.providers.hubspot import (
    HubSpotEvent,
    Merge,
    ObjectEvent,
    PropertyChange,
    batched_event_id,
    event_type,
    events,
)

VERSION: Final = 2
WRITES: Final = (CRM_OBJECTS, CRM_PROPERTIES)

_CLASSIC: Final = frozenset({"contact", "company", "deal", "ticket", "product", "line_item"})
_GENERIC: Final = "object"
_OBJECT_TYPES: Final = {"0-1": "contact", "0-2": "company", "0-3": "deal"}
"""Generic subscriptions (`object.creation`) name these types by an id; every other type keeps its id."""

_EXISTENCE: Final = {
    "creation": (True, CREATION),
    "restore": (True, RESTORE),
    "deletion": (False, DELETION),
    "privacyDeletion": (False, DELETION),
}
"""What happened -> (whether the object exists, its rank within one millisecond)."""


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
    for data in events(payload):
        name = event_type(data)
        facts = tuple(_facts(record.source, name, data))
        at = time_of_milliseconds(data.get("occurredAt"))
        yield Event(batched_event_id(data), f"hubspot.{clean_type(name)}", at, facts)


def _facts(source: str, name: str, data: dict[str, Any]) -> Iterator[Fact]:
    kind, _, verb = name.partition(".")
    if kind not in _CLASSIC and kind != _GENERIC:
        return
    if verb in _EXISTENCE:
        event = ObjectEvent.model_validate(data)
        yield _Objects(source, _object_type(kind, data), event).fact(event.objectId, *_EXISTENCE[verb])
    elif verb == "propertyChange":
        change = PropertyChange.model_validate(data)
        objects = _Objects(source, _object_type(kind, data), change)
        yield objects.fact(change.objectId)
        yield _property(objects, change)
    elif verb == "merge":
        merge = Merge.model_validate(data)
        yield from _merge(_Objects(source, _object_type(kind, data), merge), merge)


def _object_type(kind: str, data: dict[str, Any]) -> str:
    if kind != _GENERIC:
        return kind
    type_id = require_text(data.get("objectTypeId"), "objectTypeId")
    return _OBJECT_TYPES.get(type_id, type_id)


def _property(objects: _Objects, change: PropertyChange) -> CrmProperty:
    return CrmProperty(
        version=objects.version(),
        source=objects.source,
        portal_id=change.portalId,
        object_type=objects.object_type,
        object_id=change.objectId,
        name=change.propertyName,
        value=change.propertyValue,
    )


def _merge(objects: _Objects, merge: Merge) -> Iterator[CrmObject]:
    yield objects.fact(merge.primaryObjectId)
    for object_id in merge.mergedObjectIds:
        yield objects.fact(object_id, False, DELETION)
    if merge.newObjectId is not None and merge.newObjectId != merge.primaryObjectId:
        yield objects.fact(merge.newObjectId, True, CREATION)
