"""Records to rows: decode, project, join the rows that share a key. Pure: a batch's whole meaning is computed here."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from processors.outcome import Dead, EventPosition, Folded, Indexed, IndexKey, RawRecord
from processors.projections import project
from processors.projections.base import Event, unnamed
from processors.rows import TOO_LARGE, TableRow, largest_of, rows_within, storable_fact, unfit
from schemas.envelope import LAST_MS, Location, Record
from schemas.errors import PoisonRecord
from schemas.facts import TABLES
from schemas.lattice import Row, Table
from schemas.masking import mask_text
from schemas.providers.poison import poison_of
from schemas.text import may_hold_nul, storable
from schemas.topics import source_of

STATUS_RANKS: Final = {"dead": 0, "ignored": 1, "applied": 2}
MAX_ID_BYTES: Final = 1000
"""Longer ids than this don't fit into a Postgres index; a dead letter is indexed under a hash of them."""


@dataclass(slots=True)
class Changes:
    """A batch ready to be written: one row per key and table, sorted by key so that two workers lock in one order."""

    tables: dict[Table[Any], list[Row]] = field(default_factory=dict)
    events: list[Indexed] = field(default_factory=list)
    revived: list[EventPosition] = field(default_factory=list)
    """Records whose dead letters, as the index knows them, these events replace."""
    size: int = 0
    """Bytes of the texts of all rows, at most."""


def fold_record(raw: RawRecord) -> Folded:
    """Never raises for what is in the record: what can't be applied is among its dead letters."""
    try:
        record = Record.decode(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.headers, raw.value)
    except PoisonRecord as poison:
        return _dead_whole(raw, poison, None)
    try:
        events, fingerprint = project(record)
        if not events:
            raise PoisonRecord("unparsable", "the record announces no event")
        return _fold_events(raw, record, events, fingerprint)
    except BaseException as error:  # noqa: BLE001 - outermost per record: a plug-in's `sys.exit` must not stop the rest
        return _dead_whole(raw, poison_of(error), record)


def _dead_whole(raw: RawRecord, poison: PoisonRecord, record: Record | None) -> Folded:
    letter = dead_record(raw, poison, record)
    return Folded(raw, letter.source, (), (), (letter,))


def _fold_events(raw: RawRecord, record: Record, events: Sequence[Event], fingerprint: bytes) -> Folded:
    # Read once, and not for each of a thousand events.
    topic, partition, offset, received_at = raw.topic, raw.partition, raw.offset, arrival_of(raw)
    source, record_id, provider = record.source, record.record_id, record.provider
    is_nul_there = may_hold_nul(record.body, record.query)
    indexed: list[Indexed] = []
    rows: list[tuple[TableRow, ...]] = []
    dead: list[tuple[int, Event, PoisonRecord]] = []
    size, most = 0, largest_of(record.body)
    for ordinal, event in enumerate(events, start=1):
        poison = event.poison
        if poison is None:
            try:
                facts = event.facts
                if is_nul_there:
                    facts = tuple([storable_fact(fact) for fact in facts])
                found, more = rows_within(facts, most)
            except PoisonRecord as refused:
                poison = refused
        if poison is not None:
            dead.append((ordinal, event, poison))
            continue
        size += more
        if size > most:
            # None of its events is too large by itself: which ones fit would be chance.
            raise PoisonRecord("invalid_payload", TOO_LARGE)
        rows.append(found)
        indexed.append(
            Indexed(
                source,
                event.event_id,
                topic,
                partition,
                offset,
                0 if event.event_id == record_id else ordinal,
                record_id,
                fingerprint,
                provider,
                event.type,
                event.occurred_at,
                received_at,
                event.status,
                # A plug-in's may quote what it read.
                event.error and storable(mask_text(event.error)),
            )
        )
    letters: tuple[Dead, ...] = ()
    if dead:
        letters = tuple(_letters(raw, record, fingerprint, dead, {one.event_id for one in indexed}))
    return Folded(raw, source, tuple(indexed), tuple(rows), letters, size=size)


def _letters(
    raw: RawRecord,
    record: Record,
    fingerprint: bytes,
    dead: Sequence[tuple[int, Event, PoisonRecord]],
    taken: set[str],
) -> Iterator[Dead]:
    """An event whose id another one of the record has is named by its place, so that neither hides the other."""
    whole = dead_record(raw, PoisonRecord("", ""), record)
    template = whole.event._replace(fingerprint=fingerprint)
    for ordinal, event, poison in dead:
        event_id = _safe_id(event.event_id)
        if event_id in taken:
            event_id = unnamed(whole.event.record_id, ordinal)
        taken.add(event_id)
        place = 0 if event_id == whole.event.record_id else ordinal
        named = template._replace(
            event_id=event_id, type=_safe_id(event.type), occurred_at=event.occurred_at, ordinal=place
        )
        yield _letter(raw, named, poison)


def dead_record(raw: RawRecord, poison: PoisonRecord, record: Record | None = None) -> Dead:
    """The dead letter of a record, with an index row that Postgres takes whatever the record holds.

    The error names the fault without quoting the body; values that slipped in all the same are masked here.
    """
    if record is None:
        try:
            record = Record.decode(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.headers, raw.value)
        except PoisonRecord:
            record = None
    source = record.source if record else source_of(raw.topic)
    record_id = _safe_id(record.record_id if record else str(Location(raw.topic, raw.partition, raw.offset)))
    event = Indexed(
        source=_safe_id(source),
        event_id=record_id,
        topic=raw.topic,
        partition=raw.partition,
        record_offset=raw.offset,
        ordinal=0,
        record_id=record_id,
        fingerprint=hashlib.sha256(raw.value or b"").digest(),
        provider=_safe_id(record.provider if record else "unknown"),
        type=_safe_id(record.type if record else "unknown"),
        occurred_at=None,
        received_at=arrival_of(raw),
        status="dead",
        error=None,
    )
    return _letter(raw, event, poison)


def refused_event(folded: Folded, message: str) -> Dead:
    """The dead letter of the one event of what `split` gave; `message` is what Postgres said of its rows."""
    return dead_event(folded, PoisonRecord("refused_by_database", unfit(folded.rows) or message))


def dead_event(folded: Folded, poison: PoisonRecord) -> Dead:
    """The dead letter of the one event of what `split` gave."""
    (event,) = folded.events
    # The letter must not be refused for the same reason.
    named = event._replace(
        event_id=_safe_id(event.event_id),
        record_id=_safe_id(event.record_id),
        type=_safe_id(event.type),
        occurred_at=_storable_time(event.occurred_at),
    )
    return _letter(folded.raw, named._replace(status="dead"), poison)


def _storable_time(at: datetime | None) -> datetime | None:
    try:
        return None if at is None else at.astimezone(UTC)
    except OverflowError:
        return None


def _letter(raw: RawRecord, event: Indexed, poison: PoisonRecord) -> Dead:
    message = storable(mask_text(str(poison)))[:500]
    error = f"{poison.reason}: {message}"[:500]
    return Dead(raw, event.source, poison.reason, message, event._replace(error=error), event.ordinal)


def _safe_id(text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= MAX_ID_BYTES and b"\0" not in encoded and text.isprintable():
        return text
    return "sha256:" + hashlib.sha256(encoded).hexdigest()


def arrival_of(raw: RawRecord) -> datetime:
    """The record's timestamp, or the nearest that a datetime can hold."""
    return datetime.fromtimestamp(min(max(raw.timestamp, 0), LAST_MS) / 1000, UTC)


def combine(folded: Iterable[Folded]) -> Changes:
    """Join what several records say into one set of changes."""
    rows: dict[Table[Any], list[Row]] = {}
    events: dict[IndexKey, Indexed] = {}
    revived: list[EventPosition] = []
    size = 0
    for one in folded:
        size += one.size
        for each in one.rows_of:
            for table, row in each:
                rows.setdefault(table, []).append(row)
        for event in one.events:
            _keep_higher(events, event)
        for letter in one.letters:
            _keep_higher(events, letter.event)
        revived += one.revives
    return Changes(
        tables={table: table.join_all(rows[table]) for table in TABLES if table in rows},
        events=[events[key] for key in sorted(events)],
        revived=revived,
        size=size,
    )


def _keep_higher(events: dict[IndexKey, Indexed], event: Indexed) -> None:
    """A record may name an event twice; its row shows the better outcome."""
    known = events.setdefault(event.key, event)
    if known is not event and STATUS_RANKS[event.status] > STATUS_RANKS[known.status]:
        events[event.key] = event
