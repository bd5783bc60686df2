"""Records to rows: decode, project, join the rows that share a key. Pure: a batch's whole meaning is computed here."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from processors.projections import project
from schemas.envelope import LAST_MS, KafkaHeaders, Location, Record
from schemas.errors import PoisonRecord
from schemas.facts import TABLE_OF, TABLES
from schemas.lattice import Row, Table
from schemas.masking import describe, mask_text
from schemas.topics import source_of

STATUS_RANKS: Final = {"dead": 0, "ignored": 1, "applied": 2}
MAX_ID_BYTES: Final = 1000
"""Longer ids than this don't fit into a Postgres index; a dead letter is indexed under a hash of them."""


IndexKey = tuple[str, str, str, int, int]
"""(source, event id, topic, partition, offset)."""


class RawRecord(Protocol):
    """What we read of a Kafka client's record."""

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


class Folded(NamedTuple):
    """What one record means: its events, and its rows by table."""

    raw: RawRecord
    source: str
    events: tuple[Indexed, ...]
    rows: tuple[tuple[Table[Any], Row], ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(event.type for event in self.events)

    @property
    def whole_record(self) -> list[IndexKey]:
        """Where a record of several events would stand in the index if it were dead; empty for a single event."""
        first = self.events[0]
        if first.record_id == first.event_id:
            return []
        return [(first.source, first.record_id, first.topic, first.partition, first.record_offset)]


@dataclass(frozen=True, slots=True)
class Dead:
    """A record that no projection could apply, and why."""

    raw: RawRecord
    source: str
    reason: str
    message: str
    event: Indexed

    @property
    def types(self) -> tuple[str, ...]:
        return (self.event.type,)

    @property
    def rows(self) -> tuple[tuple[Table[Any], Row], ...]:
        return ()


@dataclass(slots=True)
class Changes:
    """A batch ready to be written: one row per key and table, sorted by key so that two workers lock in one order."""

    tables: dict[Table[Any], list[Row]] = field(default_factory=dict)
    events: list[Indexed] = field(default_factory=list)
    revived: list[IndexKey] = field(default_factory=list)
    """Index entries of whole records that their events now stand for, should they have been dead before."""


def fold_record(raw: RawRecord) -> Folded | Dead:
    """Never raises for what is in the record: what cannot be applied is `Dead`."""
    try:
        record = Record.decode(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.headers, raw.value)
    except PoisonRecord as poison:
        return dead_record(raw, poison, None)
    try:
        events, fingerprint = project(record)
        if not events:
            raise PoisonRecord("unparsable", "the record announces no event")
        # A fact's row can be refused as well: a number with no canonical JSON is as unreadable as a wrong type.
        rows = tuple([_row(fact) for event in events for fact in event.facts])
    except PoisonRecord as poison:
        return dead_record(raw, poison, record)
    except Exception as error:  # noqa: BLE001 - outermost per record: a projection's bug must not stop the rest
        return dead_record(raw, PoisonRecord("projection_failed", describe(error)), record)
    received_at = _time(raw.timestamp)
    indexed = [
        Indexed(
            record.source,
            event.event_id,
            raw.topic,
            raw.partition,
            raw.offset,
            record.record_id,
            fingerprint,
            record.provider,
            event.type,
            event.occurred_at,
            received_at,
            event.status,
            # A plug-in's may quote what it read.
            event.error and mask_text(event.error),
        )
        for event in events
    ]
    return Folded(raw, record.source, tuple(indexed), rows)


def _row(fact: Any) -> tuple[Table[Any], Row]:
    table = TABLE_OF[type(fact)]
    try:
        return table, table.row(fact)
    except (TypeError, ValueError, OverflowError) as error:
        raise PoisonRecord("invalid_payload", str(error)) from error


def dead_record(raw: RawRecord, poison: PoisonRecord, record: Record | None = None) -> Dead:
    """The dead letter of a record, with an index row that Postgres takes whatever the record holds.

    Whoever raised the poison said what is wrong without quoting the body; what slipped in all the same is masked here.
    """
    if record is None:
        try:
            record = Record.decode(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.headers, raw.value)
        except PoisonRecord:
            record = None
    source = record.source if record else source_of(raw.topic)
    message = mask_text(str(poison))[:500]
    record_id = _safe_id(record.record_id if record else str(Location(raw.topic, raw.partition, raw.offset)))
    event = Indexed(
        source=_safe_id(source),
        event_id=record_id,
        topic=raw.topic,
        partition=raw.partition,
        record_offset=raw.offset,
        record_id=record_id,
        fingerprint=hashlib.sha256(raw.value or b"").digest(),
        provider=_safe_id(record.provider if record else "unknown"),
        type=_safe_id(record.type if record else "unknown"),
        occurred_at=None,
        received_at=_time(raw.timestamp),
        status="dead",
        error=f"{poison.reason}: {message}".replace("\0", "\\0")[:500],
    )
    return Dead(raw, source, poison.reason, message, event)


def _safe_id(text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= MAX_ID_BYTES and b"\0" not in encoded and text.isprintable():
        return text
    return "sha256:" + hashlib.sha256(encoded).hexdigest()


def _time(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(timestamp_ms, 0), LAST_MS) / 1000, UTC)


def combine(folded: Iterable[Folded], dead: Sequence[Dead] = ()) -> Changes:
    """Join what several records say into one set of changes."""
    rows: dict[Table[Any], list[Row]] = {}
    events: dict[IndexKey, Indexed] = {}
    revived: list[IndexKey] = []
    for one in folded:
        for table, row in one.rows:
            rows.setdefault(table, []).append(row)
        for event in one.events:
            _keep_higher(events, event)
        revived += one.whole_record
    for letter in dead:
        _keep_higher(events, letter.event)
    return Changes(
        tables={table: table.join_all(rows[table]) for table in TABLES if table in rows},
        events=[events[key] for key in sorted(events)],
        revived=revived,
    )


def _keep_higher(events: dict[IndexKey, Indexed], event: Indexed) -> None:
    """A record may name an event twice; its row shows the better outcome."""
    key = event.key
    known = events.get(key)
    if known is None or STATUS_RANKS[event.status] > STATUS_RANKS[known.status]:
        events[key] = event
