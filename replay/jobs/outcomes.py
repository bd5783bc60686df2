"""The outcomes of the records that a replay sent to a target. Written in the transaction of the progress.

A successful copy in a topic adds nothing to the progress, so of copies only failures are kept.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final, Literal, LiteralString

from processors.outcome import RawRecord
from replay.ports import Connection, SendResult
from replay.selection.selection import parse_number
from schemas.errors import InvalidSelection

_UPSERT_OUTCOMES: Final[LiteralString] = """
    INSERT INTO redrive.replay_outcomes AS o (replay, topic, partition, record_offset, outcome, status, attempts, error)
    SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::text[], $6::int[], $7::int[], $8::text[])
    ON CONFLICT (replay, topic, partition, record_offset) DO UPDATE
    SET outcome = EXCLUDED.outcome, status = EXCLUDED.status, attempts = o.attempts + EXCLUDED.attempts,
        error = EXCLUDED.error, at = now()
"""
_LIST_OUTCOMES: Final[LiteralString] = """
    SELECT topic, partition, record_offset, outcome, status, attempts, error, at
    FROM redrive.replay_outcomes
    WHERE replay = $1 AND ($2::text IS NULL OR outcome = $2)
      AND ($3::text IS NULL OR (topic, partition, record_offset) > ($3::text COLLATE "C", $4::int, $5::bigint))
    ORDER BY topic, partition, record_offset LIMIT $6
"""
_COUNT_OUTCOMES: Final[LiteralString] = """
    SELECT outcome, status, count(*) AS records FROM redrive.replay_outcomes WHERE replay = $1
    GROUP BY outcome, status ORDER BY outcome, status
"""
OutcomeName = Literal["delivered", "failed"]
_LAST_PARTITION: Final = 2**31 - 1
_LAST_OFFSET: Final = 2**63 - 1


async def note(connection: Connection, replay: uuid.UUID, taken: Sequence[tuple[RawRecord, SendResult]]) -> None:
    kept = [
        (record.topic, record.partition, record.offset, one.outcome, one.status, one.attempts, one.error)
        for record, one in taken
        if one.status is not None or one.outcome == "failed"
    ]
    if kept:
        await connection.execute(_UPSERT_OUTCOMES, replay, *(list(column) for column in zip(*kept, strict=True)))


async def list_outcomes(
    connection: Connection,
    replay: uuid.UUID,
    outcome: OutcomeName | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], str | None]:
    """One page in the log's order, and the cursor of the next. Raises `InvalidSelection`."""
    after = _parse_cursor(cursor) if cursor is not None else (None, None, None)
    rows = await connection.fetch(_LIST_OUTCOMES, replay, outcome, *after, limit + 1)
    found = [dict(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return found, None
    last = found[-1]
    return found, f"{last['topic']}/{last['partition']}/{last['record_offset']}"


async def count_outcomes(connection: Connection, replay: uuid.UUID) -> list[dict[str, Any]]:
    """How many records ended how."""
    return [dict(row) for row in await connection.fetch(_COUNT_OUTCOMES, replay)]


def _parse_cursor(text: str) -> tuple[str, int, int]:
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    found = parse_number(partition, _LAST_PARTITION), parse_number(offset, _LAST_OFFSET)
    if not topic or len(topic) > 249 or "\0" in topic or found[0] is None or found[1] is None:
        raise InvalidSelection("invalid cursor: pass the previous page's `next` unchanged")
    return topic, found[0], found[1]
