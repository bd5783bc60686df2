"""The check of generations, and of the users' declarations for them. Must not change anything."""

import secrets
from typing import Any, Final, LiteralString

import asyncpg

from deploy import roles
from replay.ports import Connection
from replay.tables import generations, read_models
from replay.tables.folding import code
from replay.tables.read_models import Declared
from schemas.errors import Misconfigured
from schemas.facts import TABLES

_INDEXES_OF_SCHEMA: Final[LiteralString] = (
    "SELECT indexname FROM pg_indexes WHERE schemaname = $1 AND tablename = ANY($2)"
)
_TABLES_OF_SCHEMA: Final[LiteralString] = "SELECT tablename FROM pg_tables WHERE schemaname = $1"
_UNIQUE_INDEXES: Final[LiteralString] = """
    SELECT relname FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
    WHERE relnamespace = $1::text::regnamespace AND indisunique AND NOT indisprimary ORDER BY 1
"""
_COUNT_OPEN_LOSSES: Final[LiteralString] = """
    SELECT coalesce(sum(l.end_offset - l.first_offset), 0)::bigint FROM redrive.lost_ranges AS l
    LEFT JOIN redrive.ended_losses AS e USING (topic, partition, first_offset, end_offset)
    WHERE l.generation = (SELECT live FROM redrive.generation) AND e.ended_as IS NULL
"""
_VIEWS_OF_SCHEMA: Final[LiteralString] = "SELECT viewname FROM pg_views WHERE schemaname = $1"


async def older_code(connection: Connection) -> list[str]:
    """A warning where the live generation was folded by older code than ours."""
    live = next((one.number for one in await generations.kept(connection) if one.is_live), None)
    if live is None:
        return []
    projections = code()
    older = await generations.older_projections(connection, live, projections)
    if not older:
        return []
    named = ", ".join(f"{name} {was} (now {now})" for name, (was, now) in sorted(older.items()))
    tables = sorted(set[str]().union(*(projections[name][1] for name in older)))
    return [
        f"generation {live} was folded by older code: {named}; rows of {', '.join(tables)} may be wrong. A replay adds"
        " what is missing, only `redrive rebuild` repairs what is wrong"
    ]


async def open_losses(connection: Connection) -> list[str]:
    """A warning where the log lost records, and no proof has ended the loss."""
    lost = await connection.fetchval(_COUNT_OPEN_LOSSES)
    if not lost:
        return []
    return [f"the log lost {lost:,} records, and their loss is open: `redrive prove`, docs/runbooks/lost-ranges.md"]


async def declared_by_users(connection: Connection, declared: Declared) -> tuple[list[str], list[str]]:
    """(warnings, faults) of `[read_models]`: tried on empty tables that are gone again."""
    facts = f"scratch_check_{secrets.token_hex(4)}"
    views = f"{facts}_views"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await read_models.create_facts(connection, facts, is_kept=False)
        await connection.execute(f"CREATE SCHEMA {views}")
        await read_models.create_views(connection, facts, views)
        ours = await _names(connection, _VIEWS_OF_SCHEMA, views)
        # Twice: `migrate --apply` and every flip run them again.
        for _ in range(2):
            await read_models.create_declared_indexes(connection, declared, facts)
            await read_models.create_declared_views(connection, declared, facts, views)
        indexes = await _names(connection, _INDEXES_OF_SCHEMA, facts, [table.name for table in TABLES])
        theirs = await _names(connection, _VIEWS_OF_SCHEMA, views) - ours
        if unique := await _names(connection, _UNIQUE_INDEXES, facts):
            return [], [
                f"read_models.indexes of redrive.toml: {', '.join(sorted(unique))}: a unique index makes dead letters"
                " of the records whose rows it refuses"
            ]
    except asyncpg.InsufficientPrivilegeError:
        has_any = bool(declared.indexes or declared.views)
        return (["this login may not test the SQL of [read_models]"] if has_any else []), []
    except Misconfigured as error:
        return [], [str(error)]
    finally:
        await transaction.rollback()
    return await _strangers(connection, indexes, theirs), []


async def _strangers(connection: Connection, indexes: set[str], views: set[str]) -> list[str]:
    warnings = []
    names = [table.name for table in TABLES]
    for one in await generations.kept(connection):
        there = await _names(connection, _INDEXES_OF_SCHEMA, one.schema, names)
        left = await _names(connection, _TABLES_OF_SCHEMA, one.schema) - set(names)
        if missing := sorted(indexes - there):
            warnings.append(f"generation {one.number} lacks {', '.join(missing)}: run `redrive migrate --apply`")
        if one.is_live and (by_hand := sorted(there - indexes)):
            warnings.append(
                f"{', '.join(by_hand)} in {one.schema} is not declared in [read_models]: the next generation has"
                " no such index"
            )
        if one.is_live and left:
            warnings.append(
                f"redrive and the plug-ins of redrive.toml do not declare {', '.join(sorted(left))} in {one.schema}:"
                " the next generation has no such table"
            )
        known = {*roles.public_views(), *views, *left}
        # Postgres quotes a name that is a word of SQL.
        readers = {
            name.rpartition(".")[2].strip('"'): name for name in await generations.readers(connection, one.schema)
        }
        if strange := sorted(name for bare, name in readers.items() if bare not in known):
            warnings.append(
                f"{', '.join(strange)} reads {one.schema}, and is not declared in [read_models]: it will not see the"
                " next generation. Read the views in public"
            )
    return warnings


async def _names(connection: Connection, sql: LiteralString, *arguments: object) -> set[str]:
    rows: list[Any] = await connection.fetch(sql, *arguments)
    return {row[0] for row in rows}
