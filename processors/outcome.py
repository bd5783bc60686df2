"""The outcome of a record: its events as the index has them, their rows, and its dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from processors.rows import TableRow
from schemas.envelope import KafkaHeaders

IndexKey = tuple[str, str, str, int, int]
"""(source, event id, topic, partition, offset)."""

EventPosition = tuple[str, int, int, int | None]
"""(topic, partition, offset, ordinal): of an event, or with None of all events of a record."""


class RawRecord(Protocol):
    """The parts of a Kafka client's record that we read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders


class Indexed(NamedTuple):
    """A row of the event index, in the order of `store.INDEX_COLUMNS`. A tuple: one is made for every event."""

    source: str
    event_id: str
    topic: str
    partition: int
    record_offset: int
    ordinal: int
    """The event's place in its record, from 1; 0 where the event is the record."""
    record_id: str
    fingerprint: bytes
    provider: str
    type: str
    occurred_at: datetime | None
    received_at: datetime
    status: str
    error: str | None

    @property
    def key(self) -> IndexKey:
        return (self.source, self.event_id, self.topic, self.partition, self.record_offset)


@dataclass(frozen=True, slots=True)
class Dead:
    """An event that can't be applied, and why. `ordinal` is its place in the record, from 1; 0 for a record that is
    dead as a whole, or that is one event.
    """

    raw: RawRecord
    source: str
    reason: str
    message: str
    event: Indexed
    ordinal: int = 0


class Folded(NamedTuple):
    """The outcome of one record: its events, the rows of each of them, and its dead letters."""

    raw: RawRecord
    source: str
    events: tuple[Indexed, ...]
    rows_of: tuple[tuple[TableRow, ...], ...] = ()
    """As many as there are events."""
    letters: tuple[Dead, ...] = ()
    ordinals: frozenset[int] | None = None
    """The events of the record that this is about; None: all of them."""
    size: int = 0
    """Bytes of the texts of its rows."""

    @property
    def record_id(self) -> str:
        return (self.events[0] if self.events else self.letters[0].event).record_id

    @property
    def rows(self) -> tuple[TableRow, ...]:
        return tuple([row for rows in self.rows_of for row in rows])

    @property
    def types(self) -> tuple[str, ...]:
        return tuple([event.type for event in (*self.events, *(letter.event for letter in self.letters))])

    @property
    def names(self) -> list[tuple[str, str]]:
        """(source, event id) of each event, the dead ones too."""
        events = (*self.events, *(letter.event for letter in self.letters))
        return [(event.source, event.event_id) for event in events]

    @property
    def revives(self) -> list[EventPosition]:
        """Places of the index that may hold dead letters of another reading of the record; those of this one replace
        them. None if the one event has the record's own id: it never had another.
        """
        if self.ordinals is None:
            first = self.events[0] if self.events else self.letters[0].event
            if first.record_id == first.event_id:
                return []
        at = (self.raw.topic, self.raw.partition, self.raw.offset)
        return [(*at, ordinal) for ordinal in ((None,) if self.ordinals is None else self.ordinals)]

    def split(self) -> "list[Folded]":
        """Each event by itself, without the dead ones."""
        pairs = zip(self.events, self.rows_of, strict=True)
        return [self._replace(events=(event,), rows_of=(rows,), letters=()) for event, rows in pairs]

    def only(self, wanted: Mapping[int, str]) -> "Folded":
        """The events at these ordinals, or of these ids: an event keeps its id where newer code counts otherwise."""
        ids = set(wanted.values())
        pairs = [
            (event, rows)
            for event, rows in zip(self.events, self.rows_of, strict=True)
            if event.ordinal in wanted or event.event_id in ids
        ]
        return Folded(
            self.raw,
            self.source,
            tuple([event for event, _ in pairs]),
            tuple([rows for _, rows in pairs]),
            tuple([one for one in self.letters if one.ordinal in wanted or one.event.event_id in ids]),
            frozenset(wanted),
        )


@dataclass(slots=True)
class Refusal:
    """The parts of a bisected batch to write once all of its good events are written."""

    letters: list[Dead] = field(default_factory=list)
    """Events that Postgres refused."""
    split: list[Folded] = field(default_factory=list)
    """Records whose events were written one by one."""

    def as_folded(self) -> list[Folded]:
        """The dead letters alone."""
        known = [one._replace(events=(), rows_of=()) for one in self.split if one.letters]
        return [*known, *(Folded(one.raw, one.source, (), (), (one,)) for one in self.letters)]
