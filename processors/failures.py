"""The verdict on a failed write: whose fault it is, and so whether to retry, to look for poison, or to stop.

The default is to retry: a record is dead only if Postgres refused its *data*. `isolation` decides about an event that
ends each session that writes it.
"""

from typing import Final, Literal, Protocol

import asyncpg

from schemas.errors import RedriveError, Unavailable

FailureKind = Literal["poison", "retry"]

_DATA_CLASSES: Final = frozenset({"22", "23", "54"})
"""SQLSTATE classes: data exception, integrity violation, program limit exceeded (a key too long for an index)."""


RETRYABLE: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""The errors of talking to Postgres, besides refused data."""


class SessionLost(Unavailable):
    """Postgres ended the session that wrote one event alone, and took a transaction just before."""

    code = "connection_lost"


class TableAtFault(SessionLost):
    """Postgres ends each session that writes an event to one table."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"Postgres ends each session that writes an event to {table}, and several in a row are dead letters; the"
            " next one waits until the table takes an event. Look at the log of Postgres, and repair the table"
        )


class Closable(Protocol):
    """The part of a connection that `is_loss` reads."""

    def is_closed(self) -> bool: ...


def is_loss(error: BaseException, connection: Closable) -> bool:
    """True if the session of that connection ended during a statement.

    We close a session that was silent for too long: that proves nothing about the statement.
    """
    try:
        if not connection.is_closed():
            return False
    except asyncpg.InterfaceError:
        # The pool has taken a closed one back.
        pass
    at: BaseException | None = error
    while at is not None and not isinstance(at, TimeoutError):
        # asyncpg's clean-up on the closed connection hides what closed it.
        at = at.__cause__ or at.__context__
    return at is None


def verdict_of(error: BaseException) -> FailureKind:
    """`poison` if the same records would fail again, `retry` for everything that time or an operator can fix."""
    if isinstance(error, asyncpg.PostgresError):
        return "poison" if (error.sqlstate or "")[:2] in _DATA_CLASSES else "retry"
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        # asyncpg's own DataError: a value that it can't send.
        return "poison"
    # Every other error is about the data, or a bug of ours that this data meets: the rest must not wait for either.
    return "retry" if isinstance(error, (*RETRYABLE, RedriveError)) else "poison"
