"""Generations are made, and dropped: each whole or not at all, whoever is killed in between. Must not fold anything."""

from typing import Final, LiteralString

import asyncpg
import orjson

from processors.store import LIVE_GENERATION
from replay import audit
from replay.audit import Author
from replay.locks import Lock, advisory_lock, transaction_lock
from replay.ports import Connection
from replay.rebuild.after_flip import pending
from replay.tables.diff import PATIENCE_SECONDS
from replay.tables.generations import (
    Generation,
    RebuildPorts,
    author_of,
    find,
    is_beyond,
    kept,
    older_projections,
    readers,
    versions_of,
)
from schemas.errors import InvalidTransition, Misconfigured
from schemas.facts import TABLES

_LIVE_CUT: Final[LiteralString] = """
    SELECT topic, partition, next_offset, topic_id::text FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation) ORDER BY 1, 2
"""
_INSERT_GENERATION: Final[LiteralString] = """
    INSERT INTO redrive.generations (generation, state, only_tables, cut, cut_logs, operator, reason, copied_from,
                                     to_redrive)
    SELECT coalesce(max(generation), 0) + 1, 'building', $1, $2::jsonb, $3::jsonb, $4, $5, $6, 'all'
    FROM redrive.generations
    RETURNING generation
"""
_NOTE_VERSIONS: Final[LiteralString] = "SELECT redrive.note_versions($1, $2, $3)"
_DROPPED_BEFORE: Final[LiteralString] = "SELECT generation FROM redrive.generations WHERE state = 'dropped'"
_MAY_DROP: Final[LiteralString] = """
    SELECT coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1), true)
"""
_MARK_GENERATION_DROPPED: Final[LiteralString] = """
    UPDATE redrive.generations SET state = 'dropped', dropped_at = now()
    WHERE generation = $1 AND generation <> (SELECT live FROM redrive.generation)
    RETURNING generation
"""
_DROPPED_WITH_SCHEMA: Final[LiteralString] = """
    SELECT generation FROM redrive.generations AS g
    WHERE state = 'dropped' AND to_regnamespace('gen_' || generation) IS NOT NULL
"""
_DELETE_GENERATION_ROWS: Final[LiteralString] = """
    WITH p AS (DELETE FROM redrive.positions WHERE generation = $1),
         l AS (DELETE FROM redrive.lost_ranges WHERE generation = $1),
         v AS (DELETE FROM redrive.generation_versions WHERE generation = $1)
    UPDATE redrive.generation SET previous = NULL WHERE previous = $1
"""


async def begin(connection: Connection, ports: RebuildPorts, only: frozenset[str] | None, author: Author) -> Generation:
    """Go on with the one that is being built, or make one. Raises `InvalidTransition` where another is being built, and
    where tables would be copied into which the last flip is still re-driving.
    """
    # Somebody else may be copying tables.
    async with advisory_lock(connection, Lock.REBUILD):
        for one in await kept(connection):
            if one.state != "building":
                continue
            is_older = await older_projections(connection, one.number, ports.code)
            if one.only != only or (only is None and is_older) or await is_beyond(connection, one.number, ports.code):
                raise InvalidTransition(
                    f"generation {one.number} is being built, of other tables or by other code: let it end, or"
                    f" `redrive rebuild drop {one.number}`"
                )
            return one
        if only is not None and await pending(connection):
            raise InvalidTransition(
                "events are still re-driven into the tables that would be copied: try again once `redrive rebuild list`"
                " calls the live generation settled"
            )
        number = await _create(connection, ports, only, author)
        return await find(connection, number)


async def _create(connection: Connection, ports: RebuildPorts, only: frozenset[str] | None, author: Author) -> int:
    """All of it or nothing: one transaction, whose snapshot is the cut at which tables are copied."""
    async with connection.transaction(isolation="repeatable_read"):
        live: int = await connection.fetchval(LIVE_GENERATION)
        cut = [] if only is None else [tuple(row) for row in await connection.fetch(_LIVE_CUT)]
        named = None if only is None else sorted(only)
        number: int = await connection.fetchval(
            _INSERT_GENERATION,
            named,
            orjson.dumps([(topic, partition, offset) for topic, partition, offset, _ in cut]).decode(),
            orjson.dumps([(topic, partition, log) for topic, partition, _, log in cut if log is not None]).decode(),
            author.operator,
            author.reason,
            None if only is None else live,
        )
        await audit.note(connection, *author_of("rebuild.build", author), generation=number, only=named)
        try:
            await ports.create(connection, number, ports.declared)
        except asyncpg.InsufficientPrivilegeError as error:
            raise Misconfigured(
                "permission denied: only the database owner (the role of `redrive migrate`) can create a generation"
            ) from error
        if only is not None:
            for table in TABLES:
                if table.name not in only:
                    await _copy(connection, table.name, [c.name for c in table.columns], live, number)
        noted = {} if only is None else await versions_of(connection, live)
        versions = {
            name: version if only is None or writes <= only else min(version, noted.get(name, version))
            for name, (version, writes) in ports.code.items()
        }
        await connection.execute(_NOTE_VERSIONS, number, list(versions), list(versions.values()))
    return number


async def _copy(connection: Connection, table: str, columns: list[str], source: int, target: int) -> None:
    names = ", ".join(columns)
    # Identifiers of our own declarations, and numbers.
    await connection.execute(
        f"INSERT INTO gen_{target}.{table} ({names}) SELECT {names} FROM gen_{source}.{table}",  # noqa: S608
        timeout=PATIENCE_SECONDS,
    )


async def drop(connection: Connection, number: int, author: Author) -> None:
    """Drop a generation, or the rest of one whose drop was interrupted.

    Raises `InvalidSelection`, `InvalidTransition` for the live one or one that other views read, and `Misconfigured`
    for a login that does not own it.
    """
    if number in [row["generation"] for row in await connection.fetch(_DROPPED_BEFORE)]:
        await sweep(connection)
        return
    one = await find(connection, number)
    if one.is_live:
        raise InvalidTransition(f"generation {number} is live")
    if found := await readers(connection, one.schema):
        raise InvalidTransition(f"{', '.join(found)} would go with generation {number}, whose tables they read")
    if not await connection.fetchval(_MAY_DROP, one.schema):
        raise Misconfigured(
            "permission denied: only the database owner (the role of `redrive migrate`) can drop a generation"
        )
    await audit.note(connection, *author_of("rebuild.drop", author), generation=number)
    # From here on nobody folds into it; who is killed before the end leaves the rest to `sweep`.
    async with connection.transaction():
        await transaction_lock(connection, Lock.GENERATION, "shared")
        if await connection.fetchval(_MARK_GENERATION_DROPPED, number) is None:
            raise InvalidTransition(f"generation {number} is live")
    await sweep(connection)


async def sweep(connection: Connection) -> None:
    """The tables of generations that were dropped, and whose dropping was cut short."""
    for row in await connection.fetch(_DROPPED_WITH_SCHEMA):
        number = row["generation"]
        async with advisory_lock(connection, Lock.FOLD, key=number, seconds=30), connection.transaction():
            await connection.execute(f"DROP SCHEMA IF EXISTS gen_{number} CASCADE")
            await connection.execute(_DELETE_GENERATION_ROWS, number)
