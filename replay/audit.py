"""The one way into `redrive.audit` (invariant 10), and the list of what is in it: who, when, why, what."""

from dataclasses import dataclass
from typing import Any, Final, LiteralString, NamedTuple

import orjson

from replay.ports import Connection
from replay.selection.patterns import like, moment, require_window
from replay.selection.selection import require_text
from schemas.errors import AppendInDoubt, LogUnavailable

_INSERT_AUDIT: Final[LiteralString] = """
    INSERT INTO redrive.audit (operator, action, reason, details) VALUES ($1, $2, $3, $4::jsonb)
"""
_LIST_AUDIT: Final[LiteralString] = """
    SELECT id, at, operator, action, reason, details FROM redrive.audit
    WHERE ($1::text IS NULL OR operator = $1) AND ($2::text IS NULL OR action LIKE $2)
      AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
      AND ($5::bigint IS NULL OR id < $5)
    ORDER BY id DESC LIMIT $6
"""


class Author(NamedTuple):
    """The author of a change, and the reason."""

    operator: str
    reason: str | None


def outcome_of(error: BaseException) -> str:
    """The outcome of an append that failed, for the entry about it."""
    if isinstance(error, LogUnavailable) and not isinstance(error, AppendInDoubt):
        return "refused: Kafka did not take it"
    return "in doubt: Kafka did not confirm it"


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Which entries: None means any. `action_glob` is like `source.*`; the window is [from, to)."""

    operator: str | None = None
    action_glob: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def __post_init__(self) -> None:
        require_window(self.from_ms, self.to_ms)
        for text in (self.operator, self.action_glob):
            require_text(text)


async def note(connection: Connection, operator: str, action: str, reason: str | None, **details: Any) -> None:
    """`action` is `<thing>.<verb>`. In the caller's transaction, if there is one.

    Before the change, and committed: nothing may happen that is not on record. Raises `InvalidSelection` for an
    operator or a reason that can't be stored as text.
    """
    for text in (operator, reason):
        require_text(text)
    await connection.execute(_INSERT_AUDIT, operator, action, reason, orjson.dumps(details, default=str).decode())


async def list_audit(
    connection: Connection, search: AuditSearch, limit: int, cursor: int | None = None
) -> tuple[list[dict[str, Any]], int | None]:
    """(entries, newest first; the cursor of what follows, None at the end)."""
    window = (moment(search.from_ms), moment(search.to_ms))
    asked = (search.operator, like(search.action_glob), *window, cursor, limit + 1)
    rows = await connection.fetch(_LIST_AUDIT, *asked)
    found = [{**row, "details": orjson.loads(row["details"])} for row in rows[:limit]]
    return found, found[-1]["id"] if len(rows) > limit else None
