"""Dead letters as operators see them: which events no projection could apply, why, and what became of tries since.

A dead letter is named by where its record is, and by its place in a record of several events. Must not fold anything.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, LiteralString, NamedTuple

from replay.log.reader import LogReader
from replay.operations.events import Reveal, masked, note_reveal, read_record, redacted_entry, shown_record
from replay.ports import Connection
from replay.selection.patterns import microseconds, moment, moment_of_microseconds, require_window
from replay.selection.selection import Range, iso_of, require_text
from schemas.errors import InvalidSelection, RedriveError

MAX_LOCATIONS: Final = 1000
_LOCATION: Final = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>\d{1,9})/(?P<offset>\d{1,18})(?:/(?P<ordinal>\d{1,9}))?\Z",
    re.ASCII,
)
_FILTERS: Final[LiteralString] = """
    ($1::text[] IS NULL OR source = ANY($1)) AND ($2::text IS NULL OR split_part(error, ':', 1) = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3) AND ($4::timestamptz IS NULL OR received_at < $4)
    AND ($5::text[] IS NULL
         OR EXISTS (
             SELECT FROM unnest($5, $6::integer[], $7::bigint[], $8::integer[]) AS at (topic, partition, o, ordinal)
             WHERE (at.topic, at.partition, at.o) = (letter.topic, letter.partition, letter.record_offset)
               AND (at.ordinal IS NULL OR at.ordinal = letter.ordinal)
         ))
"""
OPEN_DEAD_LETTERS: Final[LiteralString] = """
    SELECT i.source, i.event_id, i.provider, i.type, i.received_at, i.topic, i.partition, i.record_offset, i.ordinal,
           CASE WHEN r.outcome = 'gone' THEN 'gone' ELSE 'dead' END AS status,
           coalesce(r.last_error, i.error) AS error, coalesce(r.first_error, i.error) AS first_error,
           coalesce(r.attempts, 0) AS attempts, r.first_at, r.last_at, r.operator
    FROM redrive.event_index AS i LEFT JOIN redrive.requeues AS r
        USING (topic, partition, record_offset, ordinal)
    WHERE i.status = 'dead'
"""
_REVIVED_DEAD_LETTERS: Final[LiteralString] = """
    SELECT r.source, r.event_id, r.provider, r.type, r.received_at, r.topic, r.partition, r.record_offset, r.ordinal,
           r.outcome, r.first_error, r.first_error, r.attempts, r.first_at, r.last_at, r.operator
    FROM redrive.requeues AS r
    WHERE r.outcome = 'revived' AND NOT EXISTS (
        SELECT FROM redrive.event_index AS i
        WHERE i.status = 'dead' AND (i.source, i.event_id) = (r.source, r.event_id)
          AND (i.topic, i.partition, i.record_offset, i.ordinal) = (r.topic, r.partition, r.record_offset, r.ordinal)
    )
"""
_LIST_DEAD_LETTERS: Final[LiteralString] = f"""
    SELECT * FROM ({OPEN_DEAD_LETTERS} UNION ALL {_REVIVED_DEAD_LETTERS} AND $9::boolean) AS letter
    WHERE {_FILTERS}
      AND ($10::timestamptz IS NULL
           OR (received_at, topic, partition, record_offset, ordinal) < ($10, $11::text, $12, $13, $14))
    ORDER BY received_at DESC, topic DESC, partition DESC, record_offset DESC, ordinal DESC LIMIT $15
"""  # noqa: S608 - constants
NEXT_DEAD_LETTERS: Final[LiteralString] = f"""
    SELECT letter.*, (
        SELECT record_id FROM redrive.event_index AS i
        WHERE (i.source, i.event_id, i.topic, i.partition, i.record_offset)
            = (letter.source, letter.event_id, letter.topic, letter.partition, letter.record_offset)
    ) AS record_id
    FROM ({OPEN_DEAD_LETTERS}) AS letter
    WHERE {_FILTERS}
      AND (topic, partition, record_offset, ordinal) > ($9::text, $10::integer, $11::bigint, $12::integer)
    ORDER BY topic, partition, record_offset, ordinal LIMIT $13
"""  # noqa: S608 - constants


class UnknownDeadLetter(RedriveError):
    """No dead letter is there."""


class LetterPlace(NamedTuple):
    """Where a dead letter is; without an ordinal, those of a record, however many of its events are dead."""

    topic: str
    partition: int
    offset: int
    ordinal: int | None = None

    def __str__(self) -> str:
        """An event that is a record is named by the record alone."""
        return f"{self.topic}/{self.partition}/{self.offset}" + (f"/{self.ordinal}" if self.ordinal else "")


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which of them: None means any. `reason` is that of the last try; the window [from, to) is on arrival."""

    sources: tuple[str, ...] | None = None
    reason: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    locations: tuple[LetterPlace, ...] | None = None

    def __post_init__(self) -> None:
        require_window(self.from_ms, self.to_ms)
        for text in (*(self.sources or ()), self.reason):
            require_text(text)
        if len(self.locations or ()) > MAX_LOCATIONS:
            raise InvalidSelection(f"more than {MAX_LOCATIONS} locations: name a source, a reason or a window")

    @property
    def is_any(self) -> bool:
        return self == DeadLetterFilter()

    def parameters(self) -> tuple[Any, ...]:
        """The values of the filters in SQL."""
        places = [list(column) for column in zip(*self.locations, strict=True)] if self.locations else [[], [], [], []]
        return (
            None if self.sources is None else list(self.sources),
            self.reason,
            moment(self.from_ms),
            moment(self.to_ms),
            *((None, None, None, None) if self.locations is None else places),
        )

    def as_document(self) -> dict[str, Any]:
        """The filters, for the audit."""
        asked = {**asdict(self), "from": iso_of(self.from_ms), "to": iso_of(self.to_ms)}
        asked["locations"] = [str(one) for one in self.locations] if self.locations else None
        return {name: value for name, value in asked.items() if value is not None and not name.endswith("_ms")}


def parse_location(text: str) -> LetterPlace:
    """`topic/partition/offset`, and behind it the place of one event. Raises `InvalidSelection`."""
    match = _LOCATION.match(text)
    if match is None or int(match["partition"]) >= 2**31:
        raise InvalidSelection(f"{text[:60]!r} is not topic/partition/offset, nor topic/partition/offset/event")
    ordinal = None if match["ordinal"] is None else int(match["ordinal"])
    return LetterPlace(match["topic"], int(match["partition"]), int(match["offset"]), ordinal)


async def list_dead_letters(
    connection: Connection, wanted: DeadLetterFilter, is_all: bool, limit: int, cursor: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """(letters, latest arrival first; the cursor of what follows). `is_all`: also those that a requeue revived."""
    rows = await connection.fetch(_LIST_DEAD_LETTERS, *wanted.parameters(), is_all, *_position(cursor), limit + 1)
    found = [_redacted(dict(row)) for row in rows[:limit]]
    return found, _cursor(rows[limit - 1]) if len(rows) > limit else None


async def show_dead_letter(
    connection: Connection, open_log: Callable[[], LogReader], at: LetterPlace, reveal: Reveal | None
) -> dict[str, Any]:
    """The letter, and its record's headers and body: None where the log no longer holds it.

    Raises `UnknownDeadLetter`, `InvalidSelection` where several are meant, or `Unavailable`; with `reveal`, whatever
    the audit raises, and then nothing is shown.
    """
    asked = replace(DeadLetterFilter(), locations=(at,)).parameters()
    rows = await connection.fetch(_LIST_DEAD_LETTERS, *asked, True, *_position(None), 2)
    if not rows:
        raise UnknownDeadLetter(f"{at} is not a dead letter, and no requeue revived it")
    row = rows[0]
    if len(rows) > 1:
        raise InvalidSelection(f"several events of {at} are dead: name one of them, such as {_place_of(row)}")
    record = await read_record(open_log, Range(at.topic, at.partition, at.offset, at.offset + 1))
    if reveal is not None:
        await note_reveal(connection, reveal, dict(row))
    entry = _redacted(dict(row)) if reveal is None else _with_reasons(dict(row))
    return {**entry, "redacted": reveal is None, **shown_record(record, reveal is not None)}


def _redacted(entry: dict[str, Any]) -> dict[str, Any]:
    return {**redacted_entry(_with_reasons(entry)), "first_error": masked(entry["first_error"])}


def _with_reasons(entry: dict[str, Any]) -> dict[str, Any]:
    """`location` names it; an error begins with its reason."""
    reasons = {"reason": reason_of(entry["error"]), "first_reason": reason_of(entry["first_error"])}
    return {"location": str(_place_of(entry)), **entry, **reasons}


def _place_of(row: Any) -> LetterPlace:
    return LetterPlace(row["topic"], row["partition"], row["record_offset"], row["ordinal"])


def reason_of(error: str | None) -> str:
    return (error or "").partition(":")[0]


def _position(cursor: str | None) -> tuple[Any, ...]:
    if cursor is None:
        return (None, None, None, None, None)
    when, _, place = cursor.partition("/")
    try:
        at = parse_location(place)
        return (moment_of_microseconds(when), *at._replace(ordinal=at.ordinal or 0))
    except (ValueError, OverflowError, InvalidSelection) as error:
        raise InvalidSelection("invalid cursor: pass the previous page's `next` unchanged") from error


def _cursor(row: Any) -> str:
    return f"{microseconds(row['received_at'])}/{_place_of(row)}"
