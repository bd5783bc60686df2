"""The one way into `redrive.audit` (invariant 10): who, when, why, what."""

from typing import Any, Final, LiteralString, NamedTuple

import orjson

from replay.ports import Connection
from replay.selection import require_text

_NOTE: Final[LiteralString] = """
    INSERT INTO redrive.audit (operator, action, reason, details) VALUES ($1, $2, $3, $4::jsonb)
"""


class Author(NamedTuple):
    """Who wants a change, and why."""

    operator: str
    reason: str | None


async def note(connection: Connection, operator: str, action: str, reason: str | None, **details: Any) -> None:
    """`action` is `<thing>.<verb>`. In the caller's transaction, if there is one.

    Before the change, and committed: nothing may happen that is not on record. Raises `InvalidSelection` for an
    operator or a reason that is no text.
    """
    for text in (operator, reason):
        require_text(text)
    await connection.execute(_NOTE, operator, action, reason, orjson.dumps(details, default=str).decode())
