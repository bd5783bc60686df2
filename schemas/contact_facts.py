"""Facts about contacts: what a CRM says of them, and what they allow. Their tables are declared in `facts`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from schemas.lattice import Fact, Key, Latest

_CrmExistence = Latest("existence")
_CrmValue = Latest("value")
_PreferenceValue = Latest("preference")

DELETION, RESTORE, CREATION = 2, 1, 0
"""Ranks of what happens to a CRM object in one millisecond; a property change says nothing about its existence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrmObject(Fact):
    """A CRM object, and whether its latest creation, restore or deletion left it. None: none of these has come yet."""

    source: Annotated[str, Key()]
    portal_id: Annotated[str, Key()]
    object_type: Annotated[str, Key()]
    object_id: Annotated[str, Key()]
    exists: Annotated[bool | None, _CrmExistence] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CrmProperty(Fact):
    """One property of a CRM object: its own row, so that each merges by itself. A cleared one has the value None."""

    source: Annotated[str, Key()]
    portal_id: Annotated[str, Key()]
    object_type: Annotated[str, Key()]
    object_id: Annotated[str, Key()]
    name: Annotated[str, Key()]
    is_set: Annotated[bool, _CrmValue] = True
    value: Annotated[str | None, _CrmValue] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPreference(Fact):
    """The categories that a person lets one of our numbers send, by their latest choice."""

    source: Annotated[str, Key()]
    our_number: Annotated[str, Key()]
    peer_number: Annotated[str, Key()]
    category: Annotated[str, Key()]
    value: Annotated[str | None, _PreferenceValue] = None
    changed_at: Annotated[datetime | None, _PreferenceValue] = None
