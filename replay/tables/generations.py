"""The generations that there are: who made each and why, how far it is, and which code folded it.

Must not fold anything, nor decide which one is live.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString
from uuid import UUID

import asyncpg
import orjson

from replay.audit import Author
from replay.log.reader import LogReader
from replay.ports import Connection
from replay.tables.folding import LiveFolding, Projections, SchemaFolding
from replay.tables.folding import code as projections_of_this_process
from replay.tables.read_models import Declared
from schemas.errors import InvalidSelection
from schemas.facts import TABLES
from schemas.topics import TopicPartition

_KEPT_GENERATIONS: Final[LiteralString] = """
    SELECT g.generation, g.state, g.only_tables, g.cut, g.cut_logs, g.copied_from, g.generation = l.live AS is_live,
           coalesce(g.generation = l.previous, false) AS is_previous,
           g.generation IN (l.live, l.previous) OR g.to_redrive IS NULL AS was_live
    FROM redrive.generations AS g CROSS JOIN redrive.generation AS l
    WHERE g.state <> 'dropped' ORDER BY g.generation
"""
_LIST_GENERATIONS: Final[LiteralString] = """
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
           g.generation <> l.live OR g.to_redrive IS NULL AS settled,
           g.operator, g.reason, g.created_at, g.ready_at
    FROM redrive.generations AS g CROSS JOIN redrive.generation AS l LEFT JOIN way USING (generation)
    WHERE g.state <> 'dropped' ORDER BY g.generation
"""
_OPEN_LOST_RANGES: Final[LiteralString] = """
    SELECT l.topic, l.partition, l.first_offset, l.end_offset FROM redrive.lost_ranges AS l
    LEFT JOIN redrive.ended_losses AS e USING (topic, partition, first_offset, end_offset)
    WHERE l.generation = $1 AND e.ended_as IS DISTINCT FROM 'recovered' ORDER BY 1, 2, 3
"""
_ACCEPT_LOST: Final[LiteralString] = """
    INSERT INTO redrive.ended_losses (topic, partition, first_offset, end_offset, ended_as, operator, reason)
    SELECT topic, partition, first_offset, end_offset, 'accepted', $2, $3
    FROM redrive.lost_ranges WHERE generation = $1 ON CONFLICT DO NOTHING
"""
_VERSIONS_OF_GENERATION: Final[LiteralString] = (
    "SELECT projection, version FROM redrive.generation_versions WHERE generation = $1"
)
_MARK_GENERATION_READY: Final[LiteralString] = """
    UPDATE redrive.generations SET state = 'ready', ready_at = now() WHERE generation = $1 AND state = 'building'
"""
# A view of somebody's own that reads the facts would go with them.
_READERS_OF_SCHEMA: Final[LiteralString] = """
    SELECT DISTINCT reader.oid::regclass::text AS name
    FROM pg_depend AS d
    JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class AS reader ON reader.oid = r.ev_class
    JOIN pg_class AS fact ON d.refclassid = 'pg_class'::regclass AND fact.oid = d.refobjid
    WHERE fact.relnamespace = to_regnamespace($1) AND reader.relnamespace <> fact.relnamespace ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class RebuildPorts:
    """The dependencies of rebuilding."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    open_log: Callable[[], LogReader]
    declared: Declared
    create: Callable[[Connection, int, Declared], Awaitable[None]]
    """The tables of a generation, with their grants and indexes."""
    point: Callable[[Connection, int, Declared], Awaitable[None]]
    """The views of `public` at a generation."""
    foldings: Callable[[str, frozenset[str] | None], SchemaFolding] = SchemaFolding.into
    """(schema, tables to write; None: all)"""
    live_folding: Callable[[int], LiveFolding] = LiveFolding
    """The folding of the live generation: it writes the index of the log, too."""
    code: Projections = field(default_factory=projections_of_this_process)
    """The projections of this process."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One that is kept. `cut`: below these offsets only the tables in `only` are folded, the others were copied (from
    generation `copied_from`; None where that is not known). `cut_logs`: of which logs these offsets are, if known.
    """

    number: int
    state: str
    only: frozenset[str] | None
    cut: Mapping[TopicPartition, int]
    cut_logs: Mapping[TopicPartition, UUID]
    copied_from: int | None
    is_live: bool
    is_previous: bool
    was_live: bool
    """It is, or was: a replay or an operator may have changed its tables, and a flip away from it ended that."""

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
            {(topic, partition): UUID(log) for topic, partition, log in orjson.loads(row["cut_logs"])},
            row["copied_from"],
            row["is_live"],
            row["is_previous"],
            bool(row["was_live"]),
        )
        for row in await connection.fetch(_KEPT_GENERATIONS)
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
    for row in await connection.fetch(_LIST_GENERATIONS):
        lost = await lost_ranges(connection, row["generation"])
        found.append({**row, "lost": sum(end - first for _, _, first, end in lost)})
    return found


async def lost_ranges(connection: Connection, number: int) -> list[tuple[str, int, int, int]]:
    """(topic, partition, first, end) of what a generation could not fold: the log no longer held it, and does not yet
    hold it again.
    """
    return [tuple(row) for row in await connection.fetch(_OPEN_LOST_RANGES, number)]


async def accept_lost(connection: Connection, number: int, author: Author) -> None:
    """Proofs take for accepted what a generation lacks that went live although it does. The flip is on record."""
    await connection.execute(_ACCEPT_LOST, number, author.operator, author.reason)


def name_ranges(lost: Sequence[tuple[str, int, int, int]]) -> str:
    """The first few of them, as operators read offsets."""
    named = ", ".join(f"{topic}:{partition}:{first}-{end - 1}" for topic, partition, first, end in lost[:5])
    return named + (f" and {len(lost) - 5} more ranges" if len(lost) > 5 else "")


async def versions_of(connection: Connection, number: int) -> dict[str, int]:
    """Projection -> the oldest version of it that folded into a generation; empty while none has."""
    return {row["projection"]: row["version"] for row in await connection.fetch(_VERSIONS_OF_GENERATION, number)}


async def older_projections(connection: Connection, number: int, ours: Projections) -> dict[str, tuple[int, int]]:
    """Projection -> (the version that folded, ours), where ours is newer."""
    return {
        name: (version, ours[name][0])
        for name, version in (await versions_of(connection, number)).items()
        if name in ours and version < ours[name][0]
    }


async def is_beyond(connection: Connection, number: int, ours: Projections) -> bool:
    """True if newer code than ours folds a generation: ours would spoil it."""
    folded_by = await versions_of(connection, number)
    return any(name in ours and version > ours[name][0] for name, version in folded_by.items())


def tables_named(names: tuple[str, ...]) -> frozenset[str] | None:
    """None where nothing is named. Raises `InvalidSelection`."""
    known = [table.name for table in TABLES]
    if unknown := sorted(set(names) - set(known)):
        raise InvalidSelection(f"no fact table is called {', '.join(unknown)}; there are: {', '.join(known)}")
    return frozenset(names) or None


def author_of(action: str, author: Author) -> tuple[str, str, str | None]:
    """(operator, action, reason), as `audit.note` takes them."""
    return author.operator, action, author.reason


async def note_ready(connection: Connection, number: int) -> None:
    """It has been at the live positions once."""
    await connection.execute(_MARK_GENERATION_READY, number)


async def readers(connection: Connection, schema: str) -> list[str]:
    """Views of other schemas over the facts in this one."""
    return [row["name"] for row in await connection.fetch(_READERS_OF_SCHEMA, schema)]
