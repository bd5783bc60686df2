"""The answers of the operators' routes; some are beside their routes. Must not route."""

from datetime import datetime
from typing import Any, Literal

from schemas.openapi import Document
from schemas.source_state import SourceStateName

EventStatus = Literal["applied", "ignored", "dead"]


class EventEntry(Document):
    """An entry of the index."""

    source: str
    event_id: str
    provider: str
    type: str
    occurred_at: datetime | None
    received_at: datetime
    topic: str
    partition: int
    record_offset: int
    status: EventStatus
    error: str | None
    repeats: int
    conflicts: int


class Events(Document):
    redacted: bool
    events: list[EventEntry]
    cursor: str | None


class EventLocation(Document):
    topic: str
    partition: int
    record_offset: int
    received_at: datetime
    status: EventStatus
    error: str | None


class Body(Document):
    """Redacted: `format` and `shape`. Revealed: `text`, or `base64` if it is not UTF-8."""

    bytes: int
    sha256: str
    format: Literal["json", "form", "opaque", "empty"] | None = None
    shape: Any = None
    text: str | None = None
    base64: str | None = None


class ShownEvent(EventEntry):
    """Headers and body are null where the log no longer holds the record."""

    redacted: bool
    locations: list[EventLocation]
    headers: dict[str, str] | None
    body: Body | None


class DeadLetter(Document):
    """An event. `ordinal` is its place in a record of several, and 0 for one that is a record. `error` and `reason` are
    those of the last try, and begin with one another; `attempts` counts requeues.

    `gone`: a requeue did not find the record on the log. `revived` ones are listed with `all` only.
    """

    location: str
    source: str
    event_id: str
    provider: str
    type: str
    received_at: datetime
    topic: str
    partition: int
    record_offset: int
    ordinal: int
    status: Literal["dead", "gone", "revived"]
    reason: str
    error: str | None
    first_reason: str
    first_error: str | None
    attempts: int
    first_at: datetime | None
    last_at: datetime | None
    operator: str | None


class DeadLetterList(Document):
    dead_letters: list[DeadLetter]
    cursor: str | None


class RequeueDone(Document):
    revived: int
    dead: int
    gone: int
    left_to_live: int
    dry_run: bool


class CorrectionDone(Document):
    """`before` and `after` are the row of the read model `table`. `duplicate`: the id was used before."""

    status: Literal["accepted", "duplicate", "planned"]
    id: str | None
    event_id: str | None
    location: str | None
    table: Literal["credits", "accounts", "subscriptions"]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    dry_run: bool


class SourceEntry(Document):
    """A source and its state; `events` counts by status. One that is no longer configured has only events."""

    source: str
    provider: str | None = None
    topic: str | None = None
    secrets: int | None = None
    state: SourceStateName | None = None
    since: str | None = None
    by: str | None = None
    reason: str | None = None
    events: dict[EventStatus, int]


class Sources(Document):
    sources: list[SourceEntry]


class Changed(Document):
    source: str
    state: SourceStateName
    was: SourceStateName


class HeldMinute(Document):
    """Deliveries of one minute and reason. `first` is partition/offset of the first. `clock_off_seconds`, if their
    signatures are right: the least and the most that our clock was ahead, if they were sent at their signed times.
    """

    minute: datetime
    reason: str
    deliveries: int
    first: str
    clock_off_seconds: tuple[int, int] | None


class Holding(Document):
    """Times are arrivals; `dropped` counts by minute."""

    held: int
    released: int
    verify_now: int
    first_arrival: datetime | None
    last_arrival: datetime | None
    minutes: list[HeldMinute]
    dropped: dict[str, int]


class QuarantineList(Document):
    sources: dict[str, Holding]


class ShownDelivery(Document):
    """`reason` is why it was refused, `why_not` why it does not verify now; null where it does."""

    location: str
    source: str
    reason: str
    arrived_at: datetime
    verifies: bool
    why_not: str | None
    signed_at: datetime | None
    clock_off_seconds: int | None
    released_at: datetime | None
    released_to: str | None
    redacted: bool
    headers: dict[str, str]
    body: Body


class Released(Document):
    """`untimely` are those of `still_failing` whose signature is right, and whose time is not."""

    released: int
    duplicates: int
    still_failing: int
    untimely: int
    released_before: int
    dry_run: bool


class AuditEntry(Document):
    id: int
    at: datetime
    operator: str
    action: str
    reason: str | None
    details: dict[str, Any]


class Audit(Document):
    audit: list[AuditEntry]
    cursor: int | None
