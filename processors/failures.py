"""The verdict on a failed write: whose fault it is, and so whether to retry, to look for poison, or to stop.

The default is to retry: a record is dead only if Postgres refused its *data*.
"""

from typing import Final, Literal

import asyncpg

from schemas.errors import RedriveError

FailureKind = Literal["poison", "retry"]

_DATA_CLASSES: Final = frozenset({"22", "23", "54"})
"""SQLSTATE classes: data exception, integrity violation, program limit exceeded (a key too long for an index)."""


RETRYABLE: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""The errors of talking to Postgres, besides refused data."""


def verdict_of(error: BaseException) -> FailureKind:
    """`poison` if the same records would fail again, `retry` for everything that time or an operator can fix."""
    if isinstance(error, asyncpg.PostgresError):
        return "poison" if (error.sqlstate or "")[:2] in _DATA_CLASSES else "retry"
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        # asyncpg's own DataError: a value that it can't send.
        return "poison"
    # Every other error is about the data, or a bug of ours that this data meets: the rest must not wait for either.
    return "retry" if isinstance(error, (*RETRYABLE, RedriveError)) else "poison"
