"""Why a row is what it is: the records of the log that made it.

Computed from the log alone; the live tables only tell which rows lie beneath a view. Must not write anything, and shows
nothing personal that was not asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, LiteralString

from processors.fold import fold_record
from processors.outcome import Folded, RawRecord
from processors.store import LIVE_GENERATION
from replay.log.reader import LogReader
from replay.ports import Advance, Connection
from replay.prove.history import History, RecordName
from replay.selection.selection import Range, iso_of, parse_number, require_text
from schemas.errors import InvalidSelection
from schemas.event_ids import decoded_key
from schemas.facts import TABLES
from schemas.lattice import Row, Table
from schemas.masking import mask_id, mask_key, mask_text
from schemas.redaction import redacted_value
from schemas.topics import topic_of

MAX_ROWS: Final = 200
"""Beneath one row of a view; of a conversation of years they would be without end."""

_LIVE_POSITIONS: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation)
"""
_CUSTOMER: Final = ("source", "customer_id")
_OF_CUSTOMERS: Final = (
    "subscriptions",
    "subscription_corrections",
    "invoices",
    "payments",
    "credit_entries",
    "account_corrections",
)
Beneath = tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]
"""A key, and the fact tables beneath, each with the columns that hold that key."""

_PAYMENT: Final = ("source", "payment_intent_id")
_PAYER: Final = ("source", "the customer of its payment")
_SUBSCRIBER: Final = ("source", "the customer of its subscription")
_CORRECTED: Final = ("source", "the customer of its correction")
_WHOSE: Final = {
    _PAYER: ("payments", "payment_intent_id"),
    _SUBSCRIBER: ("subscriptions", "subscription_id"),
    _CORRECTED: ("subscription_corrections", "subscription_id"),
}
"""Rows that need not say themselves whose they are: the table that does, and its key."""

_NAMED_BY: Final = {
    "refunds": "payment_intent_id",
    "disputes": "payment_intent_id",
    "credit_entries": "entry_id",
    "subscriptions": "subscription_id",
    "subscription_corrections": "subscription_id",
}
"""Their columns that hold that key."""

_OF_PAYERS: Final = tuple((table, _PAYER) for table in ("refunds", "disputes", "credit_entries"))
_OF_SUBSCRIBERS: Final = (("subscription_corrections", _SUBSCRIBER), ("subscriptions", _CORRECTED))
_OF_A_PAYMENT: Final = tuple((table, _PAYMENT) for table in ("payments", "refunds", "disputes"))
_OF_A_PURCHASE: Final = (("credit_entries", ("source", "entry_id")), *_OF_A_PAYMENT)

BENEATH: Final[dict[str, Beneath]] = {
    "subscriptions": (
        ("source", "subscription_id"),
        tuple((table, ("source", "subscription_id")) for table in ("subscriptions", "subscription_corrections")),
    ),
    "conversations": (
        ("source", "channel", "our_number", "peer_number"),
        (("messages", ("source", "channel", "our_number", "peer_number")),),
    ),
    "payments": (_PAYMENT, _OF_A_PAYMENT),
    "credits": (_CUSTOMER, (("credit_entries", _CUSTOMER), ("payments", _CUSTOMER), *_OF_PAYERS)),
    "accounts": (_CUSTOMER, (*((table, _CUSTOMER) for table in _OF_CUSTOMERS), *_OF_PAYERS, *_OF_SUBSCRIBERS)),
    "credit_entries": (("source", "entry_id"), _OF_A_PURCHASE),
    "unassigned_purchases": (_PAYMENT, _OF_A_PURCHASE),
    "conflicting_usages": (("source", "entry_id"), (("credit_entries", ("source", "entry_id")),)),
    "crm_objects": (
        ("source", "portal_id", "object_type", "object_id"),
        tuple(
            (table, ("source", "portal_id", "object_type", "object_id")) for table in ("crm_objects", "crm_properties")
        ),
    ),
}
"""The views that are not one table's."""


@dataclass(frozen=True, slots=True)
class Question:
    """A row of a table or a view, by its key; `sources` whose records are read, in a window [from, to) on arrival.

    Raises `InvalidSelection` where it names nothing, saying what there is.
    """

    name: str
    key: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """Empty: of every topic that the live generation was folded from."""
    from_ms: int | None = None
    to_ms: int | None = None

    def __post_init__(self) -> None:
        columns, _ = self.beneath
        if len(columns) != len(self.key):
            raise InvalidSelection(f"the key of {self.name} is: {' '.join(columns)}")
        for part in self.key:
            require_text(part)

    def holds_time(self, arrived_ms: int) -> bool:
        """Later offsets can carry earlier times, so every record is asked."""
        return (self.from_ms is None or arrived_ms >= self.from_ms) and (self.to_ms is None or arrived_ms < self.to_ms)

    @property
    def beneath(self) -> Beneath:
        if (known := BENEATH.get(self.name)) is not None:
            return known
        for table in TABLES:
            if table.name == self.name:
                return table.keys, ((table.name, table.keys),)
        there_are = ", ".join(sorted({*BENEATH, *(table.name for table in TABLES)}))
        raise InvalidSelection(f"there is no table {self.name[:100]!r}; there are: {there_are}")


@dataclass(slots=True)
class SoughtRows:
    """The fact rows to look for, by table; `more` is how many there are beyond `MAX_ROWS`."""

    keys: dict[str, set[Row]] = field(default_factory=dict)
    more: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """The histories of the rows, those that no record says anything of left out."""

    histories: list[History]
    more: int


async def explain(connection: Connection, reader: LogReader, question: Question, advance: Advance) -> Explanation:
    """Reads the log; again with the escapes of the key read, where no record says anything of the key as it is.

    Raises `InvalidSelection` for sources of which nothing was folded, or what reading raises.
    """
    answer = await _explain(connection, reader, question, advance)
    decoded = decoded_key(question.key)
    if answer.histories or decoded is None:
        return answer
    return await _explain(connection, reader, replace(question, key=decoded), advance)


async def _explain(connection: Connection, reader: LogReader, question: Question, advance: Advance) -> Explanation:
    wanted = await _rows_beneath(connection, question)
    ranges = await _ranges(connection, reader, question)
    found: dict[tuple[str, Row], list[tuple[RecordName, Row]]] = {}
    total, done = sum(map(len, ranges)), 0
    if ranges:
        async for part, records in reader.read(ranges):
            for record in records:
                if question.holds_time(record.timestamp):
                    _collect(record, fold_record(record), wanted, found)
            done += len(part)
            advance(done, total)
    tables = {table.name: table for table in TABLES}
    histories = []
    for name, key in sorted(found):
        history = History(tables[name], key)
        for named, row in sorted(found[name, key], key=lambda one: one[0].place):
            history.add(named, row)
        histories.append(history)
    return Explanation(histories, wanted.more)


def _collect(
    raw: RawRecord, folded: Folded, wanted: SoughtRows, found: dict[tuple[str, Row], list[tuple[RecordName, Row]]]
) -> None:
    """One row of each table and key: what a record says twice, it says once."""
    said: dict[tuple[str, Row], Row] = {}
    for table, row in folded.rows:
        key = table.key(row)
        if key in wanted.keys.get(table.name, ()):
            known = said.get((table.name, key))
            said[table.name, key] = row if known is None else table.join(known, row)
    for place, row in said.items():
        found.setdefault(place, []).append((RecordName.of(raw), row))


async def _ranges(connection: Connection, reader: LogReader, question: Question) -> list[Range]:
    """The ranges of the log below the live positions, from the window's start on."""
    positions = {(row[0], row[1]): row[2] for row in await connection.fetch(_LIVE_POSITIONS)}
    topics = {topic_of(source) for source in question.sources}
    if missing := sorted(topics - {topic for topic, _ in positions}):
        raise InvalidSelection(f"nothing was folded of {', '.join(missing)}")
    held = await reader.extents({tp for tp in positions if not topics or tp[0] in topics})
    since: dict[tuple[str, int], int] = {}
    if question.from_ms is not None:
        since = await reader.since(sorted({topic for topic, _ in held}), question.from_ms)
        held = {tp: bounds for tp, bounds in held.items() if tp in since}
    ranges = [
        Range(*tp, max(start, since.get(tp, 0)), min(end, positions[tp])) for tp, (start, end) in sorted(held.items())
    ]
    return [part for part in ranges if len(part)]


async def _rows_beneath(connection: Connection, question: Question) -> SoughtRows:
    """The fact rows behind the row that is asked for."""
    tables = {table.name: table for table in TABLES}
    _, facts = question.beneath
    wanted = SoughtRows()
    schema = f"gen_{await connection.fetchval(LIVE_GENERATION)}"
    for name, held_in in facts:
        table = tables[name]
        key = question.key if held_in in _WHOSE else _typed(table, held_in, question.key)
        if table.keys == held_in:
            # Named whole: it is looked for in the log, even where the live tables do not have it.
            wanted.keys.setdefault(name, set()).add(key)
            continue
        where = " AND ".join(f"{column} = ${place}" for place, column in enumerate(held_in, start=1))
        if held_in in _WHOSE:
            says, its_key = _WHOSE[held_in]
            theirs = f"SELECT {its_key} FROM {schema}.{says} WHERE source = $1 AND customer_id = $2"  # noqa: S608
            where = f"source = $1 AND {_NAMED_BY[name]} IN ({theirs})"
        order = ", ".join(table.keys)
        sql = f"SELECT {order}, count(*) OVER () FROM {schema}.{name} WHERE {where} ORDER BY {order} LIMIT {MAX_ROWS}"  # noqa: S608
        rows = [tuple(row) for row in await connection.fetch(sql, *key)]
        wanted.more += rows[0][-1] - len(rows) if rows else 0
        wanted.keys.setdefault(name, set()).update(row[:-1] for row in rows)
    return wanted


def _typed(table: Table[Any], columns: Sequence[str], key: Sequence[str]) -> Row:
    """A plug-in's keys need not be text."""
    types = {column.name: column.type for column in table.columns}
    typed: list[Any] = []
    for column, text in zip(columns, key, strict=True):
        if types[column] is not int:
            typed.append(text)
        elif (number := parse_number(text, 2**63 - 1)) is not None:
            typed.append(number)
        else:
            raise InvalidSelection(f"{column} is a number")
    return tuple(typed)


def as_document(answer: Explanation, is_revealed: bool) -> dict[str, Any]:
    """For people and machines. Personal values are shown by their shape only, unless revealed."""
    return {
        "redacted": not is_revealed,
        "rows": [_history(history, is_revealed) for history in answer.histories],
        "more": answer.more,
    }


def _history(history: History, is_revealed: bool) -> dict[str, Any]:
    row = dict(zip([column.name for column in history.table.columns], history.row or (), strict=True))
    return {
        "table": history.table.name,
        "key": {
            name: part if is_revealed else mask_key(str(part))
            for name, part in zip(history.table.keys, history.key, strict=True)
        },
        "columns": {
            name: {"value": _value(name, row[name], is_revealed), "record": record.location}
            for name, record in history.won.items()
        },
        "records": [
            {
                "location": one.record.location,
                "record_id": one.record.record_id if is_revealed else mask_id(one.record.record_id),
                "event_id": one.event_id if is_revealed else mask_id(one.event_id),
                "type": one.record.type if is_revealed else mask_text(one.record.type),
                "arrived_at": iso_of(one.record.arrived_ms),
                "values": {name: _value(name, value, is_revealed) for name, value in one.values.items()},
                "won": sorted(name for name, winner in history.won.items() if winner == one.record),
            }
            for one in history.contributions
        ],
    }


def _value(name: str, value: Any, is_revealed: bool) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    if is_revealed or isinstance(value, bool):
        return value
    return mask_id(value) if name.endswith("_id") and isinstance(value, str) else redacted_value(name, value)
