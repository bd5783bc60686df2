"""The index of the log and the records behind it, as operators see them: redacted, or revealed and on record.

Nothing personal leaves this module that was not asked for with a `Reveal`, and that is written into the audit first.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from replay import audit
from replay.ports import Connection
from replay.selection.event_index import named_events
from replay.selection.patterns import like, literal, microseconds, moment, moment_of_microseconds, require_window
from replay.selection.selection import Range, require_text
from schemas.errors import InvalidSelection, NotFound, Unavailable
from schemas.event_ids import spellings
from schemas.masking import MASK, mask_id, mask_text
from schemas.redaction import redacted_body, redacted_headers, revealed_body, revealed_headers
from schemas.topics import is_source_name

if TYPE_CHECKING:
    # A list of events asks Postgres alone, and does without a client of Kafka.
    from replay.log.reader import LogReader

ACTION: Final = "events.reveal"
STATUSES: Final = ("applied", "ignored", "dead")
MAX_LOOKALIKES: Final = 100
QUERY_SECONDS: Final = 10

_COLUMNS: Final = (
    "v.source, v.event_id, v.provider, v.type, v.occurred_at, v.received_at, v.topic, v.partition, v.record_offset,"
    " v.status, v.error, v.repeats, v.conflicts"
)
_TIE: Final = "hashtextextended(v.source || '/' || v.event_id, 0)"
"""Orders the events of one millisecond. In a cursor it gives nothing away, which an event id might."""

_CONDITIONS: Final[dict[str, str]] = {
    "source": "v.source = {0}",
    "type_like": "v.type LIKE {0}",
    # The second half is what has an index: without it every event's best outcome would be computed.
    "dead": "v.status = {0} AND (v.source, v.event_id) IN"
    " (SELECT i.source, i.event_id FROM redrive.event_index AS i WHERE i.status = 'dead')",
    "status": "v.status = {0}",
    "from": "v.received_at >= {0}",
    "to": "v.received_at < {0}",
    "q": "(v.event_id LIKE ANY ({0}::text[]) OR v.type LIKE {1} OR v.error LIKE {1})",
    "after": f"(v.received_at, {_TIE}) < ({{0}}, {{1}})",
}
_LIST_EVENTS: Final = (
    f"SELECT {_COLUMNS}, {_TIE} AS tie FROM public.webhook_events AS v {{where}}"  # noqa: S608 - constants
    f" ORDER BY v.received_at DESC, {_TIE} DESC LIMIT {{limit}}"
)
_SHOW_EVENT: Final = f"SELECT {_COLUMNS} FROM public.webhook_events AS v WHERE v.source = $1 AND v.event_id = $2"  # noqa: S608
_LOCATIONS: Final = """
    SELECT topic, partition, record_offset, received_at, status, error FROM redrive.event_index
    WHERE source = $1 AND event_id = $2 ORDER BY received_at, topic, partition, record_offset
"""
_LOOKALIKES: Final = """
    SELECT DISTINCT event_id FROM redrive.event_index WHERE source = $1 AND event_id LIKE $2 LIMIT $3
"""


class UnknownEvent(NotFound):
    """The index has no such event."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """The author of a look at personal data, and the reason."""

    operator: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """Which events: None means any. The window [from, to) is on arrival; `q` is contained in id, type or error."""

    source: str | None = None
    type_glob: str | None = None
    status: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    q: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None and self.status not in STATUSES:
            raise InvalidSelection(f"invalid status: expected one of {', '.join(STATUSES)}")
        require_window(self.from_ms, self.to_ms)
        for text in (self.source, self.type_glob, self.q):
            require_text(text)


@dataclass(slots=True)
class Page:
    """Newest first. `cursor` asks for what follows, None at the end."""

    events: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None


async def list_events(
    connection: Connection, search: Search, limit: int, cursor: str | None, reveal: Reveal | None
) -> Page:
    """Entries of the index. A search that looks through too much is given up: see `QUERY_SECONDS`."""
    clauses, values = _clauses(search, cursor)
    where = "WHERE " + " AND ".join(clauses) if clauses else ""
    query = _LIST_EVENTS.format(where=where, limit=f"${len(values) + 1}")
    try:
        async with connection.transaction(readonly=True):
            # A plan for any source would be the wrong one for a silent source.
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            rows = await connection.fetch(query, *values, limit + 1, timeout=QUERY_SECONDS)
    except TimeoutError as error:
        raise Unavailable(
            f"the search took longer than {QUERY_SECONDS} s: narrow it with source, from and to"
        ) from error
    page = Page([{name: value for name, value in row.items() if name != "tie"} for row in rows[:limit]])
    if len(rows) > limit:
        page.cursor = _cursor(rows[limit - 1])
    if reveal is None:
        page.events = [redacted_entry(entry) for entry in page.events]
    else:
        wanted = {name: masked(str(value)) for name, value in asdict(search).items() if value is not None}
        await audit.note(connection, reveal.operator, ACTION, reveal.reason, search=wanted, events=len(page.events))
    return page


async def show_event(
    connection: Connection, open_log: "Callable[[], LogReader]", source: str, event_id: str, reveal: Reveal | None
) -> dict[str, Any]:
    """One event: its entry, all its locations, and the headers and body of the earliest record.

    `headers` and `body` are None where the log no longer holds it. Raises `UnknownEvent`, `InvalidSelection` or
    `Unavailable`; with `reveal`, whatever the audit raises, and then nothing is shown.
    """
    for text in (source, event_id):
        require_text(text)
    named = await named_events(connection, [source], [event_id])
    row = await connection.fetchrow(_SHOW_EVENT, *named[event_id][0]) if named else None
    if row is None and MASK in event_id:
        row = await connection.fetchrow(_SHOW_EVENT, source, await _unmask(connection, source, event_id))
    if row is None:
        raise UnknownEvent(f"source {source!r} has no event {mask_id(event_id)!r} in the index")
    entry = dict(row)
    locations = [dict(found) for found in await connection.fetch(_LOCATIONS, source, entry["event_id"])]
    at = Range(entry["topic"], entry["partition"], entry["record_offset"], entry["record_offset"] + 1)
    record = await read_record(open_log, at)
    if reveal is None:
        entry = redacted_entry(entry)
        locations = [{**found, "error": masked(found["error"])} for found in locations]
    else:
        await note_reveal(connection, reveal, entry)
    return {**entry, "redacted": reveal is None, "locations": locations, **shown_record(record, reveal is not None)}


async def read_record(open_log: "Callable[[], LogReader]", at: Range) -> Any | None:
    """None where the log no longer holds it. Raises `Unavailable`."""
    async with open_log() as reader:
        return await reader.record(at)


def shown_record(record: Any | None, is_revealed: bool) -> dict[str, Any]:
    """`headers` and `body`; None where there is no record."""
    if record is None:
        return {"headers": None, "body": None}
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    body = record.value or b""
    if is_revealed:
        return {"headers": revealed_headers(headers), "body": revealed_body(body)}
    return {"headers": redacted_headers(headers), "body": redacted_body(body, headers.get("content-type", ""))}


async def note_reveal(connection: Connection, reveal: Reveal, entry: dict[str, Any]) -> None:
    """Before anything is shown.

    The audit is listed too, so it names the event by its masked id, and exactly by where it is.
    """
    await audit.note(
        connection,
        reveal.operator,
        ACTION,
        reveal.reason,
        source=entry["source"],
        event_id=mask_id(entry["event_id"]),
        location=f"{entry['topic']}/{entry['partition']}/{entry['record_offset']}",
    )


async def _unmask(connection: Connection, source: str, masked: str) -> str:
    """The id of the one event that is shown as this: what is on the screen can be pasted."""
    pattern = "%".join(literal(part) for part in masked.split(MASK))
    rows = await connection.fetch(_LOOKALIKES, source, pattern, MAX_LOOKALIKES, timeout=QUERY_SECONDS)
    found = [row["event_id"] for row in rows if mask_id(row["event_id"]) == masked]
    if len(found) > 1 or len(rows) == MAX_LOOKALIKES:
        raise InvalidSelection("several events look like that; a revealed list shows their whole ids")
    if not found:
        raise UnknownEvent(f"source {source!r} has no event {masked!r} in the index")
    return str(found[0])


def _clauses(search: Search, cursor: str | None) -> tuple[list[str], list[Any]]:
    """Conditions for what is asked, and no others: so the planner sees which index serves."""
    asked: dict[str, tuple[Any, ...]] = {
        "source": (search.source,),
        "type_like": (like(search.type_glob),),
        "dead" if search.status == "dead" else "status": (search.status,),
        "from": (moment(search.from_ms),),
        "to": (moment(search.to_ms),),
        "q": _containing(search.q),
        "after": _position(cursor),
    }
    clauses: list[str] = []
    values: list[Any] = []
    for name, given in asked.items():
        if given[0] is not None:
            numbers = [f"${len(values) + position}" for position in range(1, len(given) + 1)]
            clauses.append(_CONDITIONS[name].format(*numbers))
            values += given
    return clauses, values


def _containing(text: str | None) -> tuple[Any, ...]:
    """Patterns for the event id, as it may be spelled, and the one for other texts."""
    if text is None:
        return (None, None)
    return [f"%{literal(spelling)}%" for spelling in spellings(text)], f"%{literal(text)}%"


def _position(cursor: str | None) -> tuple[Any, ...]:
    if cursor is None:
        return (None,)
    when, _, tie = cursor.partition(".")
    try:
        received_at, place = moment_of_microseconds(when), int(tie)
    except (ValueError, OverflowError) as error:
        raise InvalidSelection("invalid cursor: pass the previous page's `next` unchanged") from error
    return received_at, max(min(place, 2**63 - 1), -(2**63))


def _cursor(row: asyncpg.Record) -> str:
    return f"{microseconds(row['received_at'])}.{row['tie']}"


def redacted_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """A row of the index without what is personal."""
    return {
        **entry,
        # Other writers to a topic may call its source anything.
        "source": entry["source"] if is_source_name(entry["source"]) else mask_text(entry["source"]),
        "event_id": mask_id(entry["event_id"]),
        "provider": mask_text(entry["provider"]),
        "type": mask_text(entry["type"]),
        "error": masked(entry["error"]),
    }


def masked(text: str | None) -> str | None:
    return None if text is None else mask_text(text)
