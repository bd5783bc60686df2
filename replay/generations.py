"""The generations that there are: who made each and why, how far it is, and which code folded it.

Must not fold anything, nor decide which one is live.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import asyncpg
import orjson

from replay import audit
from replay.audit import Author
from replay.ports import Code, Connection, Foldings, GenerationFolding
from replay.read_models import Declared
from replay.window import LogReader
from schemas.errors import InvalidSelection, InvalidTransition, Misconfigured
from schemas.facts import TABLES

Partition = tuple[str, int]

_KEPT: Final[LiteralString] = """
    SELECT g.generation, g.state, g.only_tables, g.cut, g.generation = l.live AS is_live,
           coalesce(g.generation = l.previous, false) AS is_previous
    FROM redrive.generations AS g CROSS JOIN redrive.generation AS l
    WHERE g.state <> 'dropped' ORDER BY g.generation
"""
_LIST: Final[LiteralString] = """
    WITH way AS (
        SELECT g.generation, sum(least(coalesce(own.next_offset, 0), live.next_offset))::bigint AS folded,
               sum(live.next_offset)::bigint AS to_fold
        FROM redrive.generations AS g CROSS JOIN redrive.generation AS l
        JOIN redrive.positions AS live ON live.generation = l.live
        LEFT JOIN redrive.positions AS own
          ON (own.generation, own.topic, own.partition) = (g.generation, live.topic, live.partition)
        GROUP BY g.generation
    )
    SELECT g.generation,
           CASE g.generation WHEN l.live THEN 'live' WHEN l.previous THEN 'previous' ELSE g.state END AS state,
           g.only_tables AS only, coalesce(way.folded, 0) AS folded, coalesce(way.to_fold, 0) AS to_fold,
           g.operator, g.reason, g.created_at, g.ready_at
    FROM redrive.generations AS g CROSS JOIN redrive.generation AS l LEFT JOIN way USING (generation)
    WHERE g.state <> 'dropped' ORDER BY g.generation
"""
_LOST: Final[LiteralString] = """
    SELECT topic, partition, first_offset, end_offset FROM redrive.lost_ranges WHERE generation = $1 ORDER BY 1, 2, 3
"""
_VERSIONS: Final[LiteralString] = "SELECT projection, version FROM redrive.generation_versions WHERE generation = $1"
_NOTE_VERSIONS: Final[LiteralString] = "SELECT redrive.note_versions($1, $2, $3)"
_LIVE: Final[LiteralString] = "SELECT live FROM redrive.generation"
_CUT: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation) ORDER BY 1, 2
"""
_INSERT: Final[LiteralString] = """
    INSERT INTO redrive.generations (generation, state, only_tables, cut, operator, reason)
    SELECT coalesce(max(generation), 0) + 1, 'building', $1, $2::jsonb, $3, $4 FROM redrive.generations
    RETURNING generation
"""
_READY: Final[LiteralString] = """
    UPDATE redrive.generations SET state = 'ready', ready_at = now() WHERE generation = $1 AND state = 'building'
"""
_LOCK: Final[LiteralString] = "SELECT pg_advisory_xact_lock_shared(hashtext('redrive.generation'))"
_DROP: Final[LiteralString] = """
    UPDATE redrive.generations SET state = 'dropped', dropped_at = now()
    WHERE generation = $1 AND generation <> (SELECT live FROM redrive.generation)
    RETURNING generation
"""
_DROPPED: Final[LiteralString] = """
    SELECT generation FROM redrive.generations AS g
    WHERE state = 'dropped' AND to_regnamespace('gen_' || generation) IS NOT NULL
"""
_FORGET: Final[LiteralString] = """
    WITH p AS (DELETE FROM redrive.positions WHERE generation = $1),
         l AS (DELETE FROM redrive.lost_ranges WHERE generation = $1),
         v AS (DELETE FROM redrive.generation_versions WHERE generation = $1)
    UPDATE redrive.generation SET previous = NULL WHERE previous = $1
"""
_BEGIN: Final[LiteralString] = "SELECT pg_advisory_lock(hashtext('redrive.rebuild'))"
_BEGUN: Final[LiteralString] = "SELECT pg_advisory_unlock(hashtext('redrive.rebuild'))"
_HOLD: Final[LiteralString] = "SELECT pg_advisory_lock(hashtext('redrive.rebuild.generation'), $1)"
_TRY_TO_HOLD: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtext('redrive.rebuild.generation'), $1)"
_LET_GO: Final[LiteralString] = "SELECT pg_advisory_unlock(hashtext('redrive.rebuild.generation'), $1)"
# A view of somebody's own that reads the facts would go with them.
_DEPENDENTS: Final[LiteralString] = """
    SELECT DISTINCT reader.oid::regclass::text AS name
    FROM pg_depend AS d
    JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class AS reader ON reader.oid = r.ev_class
    JOIN pg_class AS fact ON d.refclassid = 'pg_class'::regclass AND fact.oid = d.refobjid
    WHERE fact.relnamespace = to_regnamespace($1) AND reader.relnamespace <> fact.relnamespace ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """What rebuilding needs of others."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    open_log: Callable[[], LogReader]
    foldings: Foldings
    live_folding: Callable[[int], GenerationFolding]
    """Of a generation that is live: it writes the index of the log, too."""
    code: Code
    declared: Declared
    create: Callable[[Connection, int], Awaitable[None]]
    """The tables of a generation, with their grants and indexes."""
    point: Callable[[Connection, int], Awaitable[None]]
    """The views of `public` at a generation."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One that is kept. `cut`: below these offsets only the tables in `only` are folded, the others were copied."""

    number: int
    state: str
    only: frozenset[str] | None
    cut: Mapping[Partition, int]
    is_live: bool
    is_previous: bool

    @property
    def schema(self) -> str:
        return f"gen_{self.number}"


async def kept(connection: Connection) -> list[Generation]:
    return [
        Generation(
            row["generation"],
            row["state"],
            None if row["only_tables"] is None else frozenset(row["only_tables"]),
            {(topic, partition): offset for topic, partition, offset in orjson.loads(row["cut"])},
            row["is_live"],
            row["is_previous"],
        )
        for row in await connection.fetch(_KEPT)
    ]


async def find(connection: Connection, number: int) -> Generation:
    """Raises `InvalidSelection`."""
    found = await kept(connection)
    for one in found:
        if one.number == number:
            return one
    raise InvalidSelection(f"there is no generation {number}; there are: {', '.join(str(g.number) for g in found)}")


async def describe_all(connection: Connection) -> list[dict[str, Any]]:
    """Every generation that is kept, for a list; `lost` counts the offsets that it could not fold."""
    found = []
    for row in await connection.fetch(_LIST):
        lost = await lost_ranges(connection, row["generation"])
        found.append({**row, "lost": sum(end - first for _, _, first, end in lost)})
    return found


async def lost_ranges(connection: Connection, number: int) -> list[tuple[str, int, int, int]]:
    """(topic, partition, first, end) of what a generation could not fold: the log no longer held it."""
    return [tuple(row) for row in await connection.fetch(_LOST, number)]


async def versions_of(connection: Connection, number: int) -> dict[str, int]:
    """Projection -> the oldest version of it that folded into a generation; empty while none has."""
    return {row["projection"]: row["version"] for row in await connection.fetch(_VERSIONS, number)}


async def older_projections(connection: Connection, number: int, code: Code) -> dict[str, tuple[int, int]]:
    """Projection -> (the version that folded, ours), where ours is newer."""
    return {
        name: (version, code[name][0])
        for name, version in (await versions_of(connection, number)).items()
        if name in code and version < code[name][0]
    }


async def is_beyond(connection: Connection, number: int, code: Code) -> bool:
    """Whether newer code than ours folds a generation: ours would spoil it."""
    folded_by = await versions_of(connection, number)
    return any(name in code and version > code[name][0] for name, version in folded_by.items())


def tables_named(names: tuple[str, ...]) -> frozenset[str] | None:
    """None where nothing is named. Raises `InvalidSelection`."""
    known = [table.name for table in TABLES]
    if unknown := sorted(set(names) - set(known)):
        raise InvalidSelection(f"no fact table is called {', '.join(unknown)}; there are: {', '.join(known)}")
    return frozenset(names) or None


async def begin(connection: Connection, ports: Ports, only: frozenset[str] | None, author: Author) -> Generation:
    """Go on with the one that is being built, or make one. Raises `InvalidTransition` where another is being built."""
    await connection.execute(_BEGIN)
    try:
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
        number = await _create(connection, ports, only, author)
        return await find(connection, number)
    finally:
        await connection.execute(_BEGUN)


async def _create(connection: Connection, ports: Ports, only: frozenset[str] | None, author: Author) -> int:
    """All of it or nothing: one transaction, whose snapshot is the cut at which tables are copied."""
    async with connection.transaction(isolation="repeatable_read"):
        live: int = await connection.fetchval(_LIVE)
        cut = [] if only is None else [tuple(row) for row in await connection.fetch(_CUT)]
        named = None if only is None else sorted(only)
        number: int = await connection.fetchval(
            _INSERT, named, orjson.dumps(cut).decode(), author.operator, author.reason
        )
        await audit.note(connection, *author_of("rebuild.build", author), generation=number, only=named)
        try:
            await ports.create(connection, number)
        except asyncpg.InsufficientPrivilegeError as error:
            raise Misconfigured(
                "this login may not make a generation: that is for the owner of the database (`redrive migrate`'s)"
            ) from error
        if only is not None:
            for table in TABLES:
                if table.name not in only:
                    await _copy(connection, table.name, [c.name for c in table.columns], live, number)
        noted = {} if only is None else {row[0]: row[1] for row in await connection.fetch(_VERSIONS, live)}
        versions = {
            name: version if only is None or writes <= only else min(version, noted.get(name, version))
            for name, (version, writes) in ports.code.items()
        }
        await connection.execute(_NOTE_VERSIONS, number, list(versions), list(versions.values()))
    return number


def author_of(action: str, author: Author) -> tuple[str, str, str | None]:
    """(operator, action, reason), as `audit.note` takes them."""
    return author.operator, action, author.reason


async def _copy(connection: Connection, table: str, columns: list[str], source: int, target: int) -> None:
    names = ", ".join(columns)
    # Identifiers of our own declarations, and numbers.
    await connection.execute(
        f"INSERT INTO gen_{target}.{table} ({names}) SELECT {names} FROM gen_{source}.{table}"  # noqa: S608
    )


async def note_ready(connection: Connection, number: int) -> None:
    """It has been at the live positions once."""
    await connection.execute(_READY, number)


async def try_to_hold(connection: Connection, number: int) -> bool:
    """Whether nobody else folds it: one process at a time, for as long as the connection lives or until `let_go`."""
    return bool(await connection.fetchval(_TRY_TO_HOLD, number))


async def let_go(connection: Connection, number: int) -> None:
    await connection.execute(_LET_GO, number)


async def drop(connection: Connection, number: int, author: Author) -> None:
    """Raises `InvalidSelection`, and `InvalidTransition` for the live one or one that views of others read."""
    one = await find(connection, number)
    if one.is_live:
        raise InvalidTransition(f"generation {number} is live")
    if found := await readers(connection, one.schema):
        raise InvalidTransition(f"{', '.join(found)} would go with generation {number}, whose tables they read")
    await audit.note(connection, *author_of("rebuild.drop", author), generation=number)
    # From here on nobody folds into it; who is killed before the end leaves the rest to `sweep`.
    async with connection.transaction():
        await connection.execute(_LOCK)
        if await connection.fetchval(_DROP, number) is None:
            raise InvalidTransition(f"generation {number} is live")
    await sweep(connection)


async def readers(connection: Connection, schema: str) -> list[str]:
    """Views of other schemas over the facts in this one."""
    return [row["name"] for row in await connection.fetch(_DEPENDENTS, schema)]


async def sweep(connection: Connection) -> None:
    """The tables of generations that were dropped, and whose dropping was cut short."""
    for row in await connection.fetch(_DROPPED):
        number = row["generation"]
        await connection.execute(_HOLD, number)
        try:
            async with connection.transaction():
                await connection.execute(f"DROP SCHEMA IF EXISTS gen_{number} CASCADE")
                await connection.execute(_FORGET, number)
        finally:
            await let_go(connection, number)
