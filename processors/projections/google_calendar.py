"""Google Calendar notifications: stored, indexed and counted, read by nobody. Pure.

A notification says that a calendar changed and not what changed, so there is no row to make of it.
"""

from collections.abc import Iterator
from typing import Any, Final

from processors.projections.base import Event
from schemas.envelope import Record
from schemas.lattice import Table
from schemas.providers.base import Payload
from schemas.providers.google_calendar import notification_id, notification_type

VERSION: Final = 1
WRITES: Final[tuple[Table[Any], ...]] = ()


def project(record: Record, payload: Payload) -> Iterator[Event]:
    yield Event(notification_id(payload), notification_type(payload), None)
