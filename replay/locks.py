"""Postgres' advisory locks, by name: the one place to review which work excludes which.

A session that takes several takes them in the order of `Lock`. Migrations take three of them in SQL functions:
`GENERATION`, shared, in each writer's transaction (`redrive.advance`, `redrive.follow`), and after it `REPLAY_STEP`,
shared (`redrive.join_replay`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, Literal, LiteralString

from replay.ports import Connection


class Lock(StrEnum):
    """The names are part of the contract with other versions of redrive on the same database."""

    MIGRATE = "redrive.migrate"
    """One `redrive migrate` at a time."""
    CONTROL = "redrive.control"
    """One change of a source's state at a time."""
    CORRECTIONS = "redrive.corrections"
    """One correction at a time: its effect rests on the rows before it."""
    QUARANTINE = "redrive.quarantine"
    """One release at a time."""
    REQUEUE = "redrive.requeue"
    """One requeue at a time."""
    PROOF = "redrive.proof"
    """One proof at a time; the session that writes its row holds it until it closes."""
    REPLAY = "redrive.replay"
    """Key: the replay. The session that runs it holds it until it closes."""
    REPLAY_CREATE = "redrive.replay.create"
    """Two replays that overlap can't both find themselves alone."""
    REPLAY_STEP = "redrive.replay.step"
    """Key: the replay. Each batch shares it; a pause or a cancel takes it exclusively."""
    SNAPSHOT = "redrive.scratch"
    """Key: the snapshot's name. Whoever makes, drops or sweeps it."""
    REBUILD = "redrive.rebuild"
    """One generation is made at a time."""
    FOLD = "redrive.rebuild.generation"
    """Key: the generation. One process folds it, or drops its tables."""
    GENERATION = "redrive.generation"
    """Each writer of a generation shares it for its transaction, as do a drop and a comparison of views. A flip takes
    it exclusively: that keeps a flip and a replay apart.
    """


Mode = Literal["wait", "try"]
_TAKE: Final[dict[str, LiteralString]] = {
    "wait": "SELECT true FROM pg_advisory_lock({})",
    "try": "SELECT pg_try_advisory_lock({})",
    "exclusive": "SELECT true FROM pg_advisory_xact_lock({})",
    "shared": "SELECT true FROM pg_advisory_xact_lock_shared({})",
}
_RELEASE: Final[LiteralString] = "SELECT pg_advisory_unlock({})"


def _sql(template: LiteralString, key: int | str | None) -> tuple[str, tuple[int | str, ...]]:
    if key is None:
        return template.format("hashtext($1)"), ()
    return template.format("hashtext($1), $2::integer" if isinstance(key, int) else "hashtext($1), hashtext($2)"), (
        key,
    )


async def try_lock(connection: Connection, lock: Lock, key: int | str | None = None) -> bool:
    """For as long as the connection lives. False where another session has it."""
    sql, keys = _sql(_TAKE["try"], key)
    return bool(await connection.fetchval(sql, lock.value, *keys))


@asynccontextmanager
async def advisory_lock(
    connection: Connection,
    lock: Lock,
    mode: Mode = "wait",
    key: int | str | None = None,
    timeout: float | None = None,
) -> AsyncIterator[bool]:
    """The session's lock, for the block. `try` yields False where another session has it; the block decides what then.

    `timeout`: seconds, where the connection's own is too short for the wait.
    """
    sql, keys = _sql(_TAKE[mode], key)
    is_taken = bool(await connection.fetchval(sql, lock.value, *keys, timeout=timeout))
    try:
        yield is_taken
    finally:
        # A connection that is closed has released all that it had.
        if is_taken and not connection.is_closed():
            sql, keys = _sql(_RELEASE, key)
            await connection.execute(sql, lock.value, *keys)


async def transaction_lock(
    connection: Connection, lock: Lock, mode: Literal["exclusive", "shared"], key: int | str | None = None
) -> None:
    """Until the transaction ends. Read what the lock protects in a later statement: this one's snapshot is older."""
    sql, keys = _sql(_TAKE[mode], key)
    await connection.execute(sql, lock.value, *keys)
