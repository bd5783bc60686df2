"""Postgres' advisory locks, by name: the one place to review which work excludes which.

A session that takes several takes them in the order of `Lock`. Migrations take three of them in SQL functions:
`GENERATION`, shared, in each writer's transaction (`redrive.advance`, `redrive.follow`), and after it `REPLAY_STEP`,
shared (`redrive.join_replay`).

No wait is without end: the session that has the lock may be of a frozen process. A wait that takes too long is
`Locked`, which names that session.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, Literal, LiteralString

import asyncpg

from replay.ports import Connection
from schemas.errors import Locked


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
    """Key: the snapshot's name. Held to make, drop or sweep it."""
    REBUILD = "redrive.rebuild"
    """One generation is made at a time."""
    FOLD = "redrive.rebuild.generation"
    """Key: the generation. One process folds it, or drops its tables."""
    GENERATION = "redrive.generation"
    """Each writer of a generation shares it for its transaction, as do a drop and a comparison of views. A flip takes
    it exclusively: that keeps a flip and a replay apart.
    """


LOCK_SECONDS: Final = 5.0
"""Work under a lock takes less, but for the copy of tables, the end of a fold, and a migration."""

Mode = Literal["wait", "try"]
_LOCK: Final[dict[str, LiteralString]] = {
    "wait": "SELECT true FROM pg_advisory_lock({})",
    "try": "SELECT pg_try_advisory_lock({})",
    "exclusive": "SELECT true FROM pg_advisory_xact_lock({})",
    "shared": "SELECT true FROM pg_advisory_xact_lock_shared({})",
}
_UNLOCK: Final[LiteralString] = "SELECT pg_advisory_unlock({})"
_BOUND_WAIT: Final[LiteralString] = "SELECT set_config('lock_timeout', $1, true)"
_HOLDERS: Final[LiteralString] = """
    SELECT pid, application_name, coalesce(host(client_addr), 'a local socket') AS address, state,
           extract(epoch FROM now() - state_change)::bigint AS seconds
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted
          AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND CASE objsubid
                  WHEN 1 THEN $2::integer IS NULL AND ((classid::bigint << 32) | objid::bigint) = hashtext($1)::bigint
                  ELSE classid::bigint = hashtext($1)::bigint & 4294967295 AND objid::bigint = $2::bigint & 4294967295
              END
    ORDER BY pid LIMIT 1
"""


def _sql(template: LiteralString, key: int | str | None) -> tuple[str, tuple[int | str, ...]]:
    if key is None:
        return template.format("hashtext($1)"), ()
    return template.format("hashtext($1), $2::integer" if isinstance(key, int) else "hashtext($1), hashtext($2)"), (
        key,
    )


async def try_lock(connection: Connection, lock: Lock, key: int | str | None = None) -> bool:
    """For as long as the connection lives. False where another session has it."""
    sql, keys = _sql(_LOCK["try"], key)
    return bool(await connection.fetchval(sql, lock.value, *keys))


@asynccontextmanager
async def advisory_lock(
    connection: Connection,
    lock: Lock,
    mode: Mode = "wait",
    key: int | str | None = None,
    seconds: float = LOCK_SECONDS,
) -> AsyncIterator[bool]:
    """The session's lock, for the block. `try` yields False where another session has it; the block decides what then.
    `wait` raises `Locked` after `seconds`.
    """
    if mode == "try":
        is_taken = await try_lock(connection, lock, key)
    else:
        await _wait_for(connection, "wait", lock, key, seconds)
        is_taken = True
    try:
        yield is_taken
    finally:
        # A connection that is closed has released all that it had.
        if is_taken and not connection.is_closed():
            sql, keys = _sql(_UNLOCK, key)
            await connection.execute(sql, lock.value, *keys)


async def transaction_lock(
    connection: Connection,
    lock: Lock,
    mode: Literal["exclusive", "shared"],
    key: int | str | None = None,
    seconds: float = LOCK_SECONDS,
) -> None:
    """Until the transaction ends. Read what the lock protects in a later statement: this one's snapshot is older.

    Later statements of the transaction wait no longer for their locks either. Raises `Locked` after `seconds`.
    """
    await _wait_for(connection, mode, lock, key, seconds)


async def _wait_for(connection: Connection, mode: str, lock: Lock, key: int | str | None, seconds: float) -> None:
    sql, keys = _sql(_LOCK[mode], key)
    try:
        # Within a transaction it is a savepoint, after which the holder can still be asked for.
        async with connection.transaction():
            await connection.execute(_BOUND_WAIT, f"{seconds * 1000:.0f}ms")
            await connection.execute(sql, lock.value, *keys)
    except asyncpg.LockNotAvailableError as error:
        raise Locked(await _held_by(connection, lock, key, seconds)) from error


async def _held_by(connection: Connection, lock: Lock, key: int | str | None, seconds: float) -> str:
    """The sentence of `Locked`: the lock, its session, and the way out."""
    number = key if isinstance(key, int) or key is None else await connection.fetchval("SELECT hashtext($1)", key)
    holder = await connection.fetchrow(_HOLDERS, lock.value, number)
    waited = f"waited {seconds:g} s for the lock {lock.value!r}"
    if holder is None:
        return f"{waited}, which several sessions take in turn: try again"
    name = f" ({holder['application_name']})" if holder["application_name"] else ""
    # A login without the right to see the sessions of others sees their numbers alone.
    seen = f" of {holder['address']}, {holder['state']} for {holder['seconds']} s," if holder["state"] else ""
    return (
        f"{waited}: session {holder['pid']}{name}{seen} has it. Wait for its end and try again; if its process is"
        f" frozen, end the session: SELECT pg_terminate_backend({holder['pid']})"
    )
