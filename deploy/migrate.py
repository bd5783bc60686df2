"""Migrations (numbered SQL, forward only, through yoyo) and the fact tables and views of generations."""

import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import Final, LiteralString, TypeAlias

import asyncpg
import yoyo

from deploy import roles
from deploy.comments import give_comments
from deploy.wiring import user_name
from processors.store import LIVE_GENERATION
from replay.locks import Lock, advisory_lock
from replay.tables import read_models
from replay.tables.read_models import NOTHING_DECLARED, Declared
from schemas import table_sql
from schemas.errors import Misconfigured
from schemas.facts import TABLES

FIRST_GENERATION: Final = 1
_APPLIED_MIGRATIONS: Final[LiteralString] = "SELECT migration, sha256 FROM redrive.migration_checksum"
_COLUMNS_OF_SCHEMA: Final[LiteralString] = """
    SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = $1
"""
_LIVE_SCHEMA: Final[LiteralString] = "SELECT 'gen_' || live FROM redrive.generation"
# The first one has nobody who made it.
_GENERATIONS_TO_MIGRATE: Final[LiteralString] = """
    WITH live AS (
        INSERT INTO redrive.generations (generation, state, ready_at)
        SELECT live, 'ready', now() FROM redrive.generation ON CONFLICT DO NOTHING
    )
    SELECT generation FROM redrive.generations WHERE state <> 'dropped'
    UNION SELECT live FROM redrive.generation ORDER BY 1
"""
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


def packaged() -> dict[str, str]:
    """Migration name -> SHA-256 of its file, in order."""
    folder = Path(str(files("schemas.migrations")))
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.sql"))}


async def applied(connection: Connection) -> dict[str, str]:
    """The migrations that the database holds; none for one that redrive never saw."""
    if await connection.fetchval("SELECT to_regclass('redrive.migration_checksum')") is None:
        return {}
    return {row["migration"]: row["sha256"] for row in await connection.fetch(_APPLIED_MIGRATIONS)}


async def pending(connection: Connection) -> list[str]:
    """Names to apply. Raises `Misconfigured` where a released migration was edited or the database is newer."""
    ours, theirs = packaged(), await applied(connection)
    if unknown := sorted(set(theirs) - set(ours)):
        raise Misconfigured(f"the database has migrations that this version does not know: {', '.join(unknown)}")
    if edited := [name for name, digest in theirs.items() if ours[name] != digest]:
        raise Misconfigured(f"applied migrations were edited afterwards: {', '.join(edited)}")
    return [name for name in ours if name not in theirs]


async def migrate(connection: Connection, url: str, declared: Declared = NOTHING_DECLARED) -> list[str]:
    """Apply what is pending, under an advisory lock; make the first generation; refresh the views.

    Every generation that is kept has this version's tables, and the indexes that users declared.
    """
    async with advisory_lock(connection, Lock.MIGRATE, seconds=60):
        names = await pending(connection)
        if names:
            _apply(url)
            rows = [(name, packaged()[name]) for name in names]
            await connection.executemany("INSERT INTO redrive.migration_checksum VALUES ($1, $2)", rows)
        async with connection.transaction():
            live = await connection.fetchval(LIVE_GENERATION)
            if live is None:
                live = FIRST_GENERATION
                await connection.execute("INSERT INTO redrive.generation (live) VALUES ($1)", live)
            for row in await connection.fetch(_GENERATIONS_TO_MIGRATE):
                await create_generation(connection, row["generation"], declared)
            await point_views(connection, live, declared)
            for schema in ("redrive", "public"):
                await give_comments(connection, schema)
            await roles.grant(connection)
    return names


def _apply(url: str) -> None:
    # yoyo notes who migrated, and fails where the user has no name.
    os.environ.setdefault("LOGNAME", user_name())
    backend = yoyo.get_backend("postgresql+psycopg://" + url.partition("://")[2])
    try:
        migrations = yoyo.read_migrations(str(files("schemas.migrations")))
        # Our advisory lock is held: a lock row left by a killed process is stale.
        backend.break_lock()
        with backend.lock():
            backend.apply_migrations(backend.to_apply(migrations))
    finally:
        backend.connection.close()


async def create_generation(connection: Connection, generation: int, declared: Declared = NOTHING_DECLARED) -> None:
    schema = f"gen_{generation}"
    await read_models.create_facts(connection, schema)
    missing = await _missing_columns(connection, schema)
    for table in TABLES:
        for column in table.columns:
            if f"{table.name}.{column.name}" not in missing:
                continue
            # A column that a later version declares: empty until a replay of the whole log fills it.
            await connection.execute(
                f"ALTER TABLE {schema}.{table.name} ADD COLUMN IF NOT EXISTS {table_sql.column(table, column)}"
            )
    await read_models.create_declared_indexes(connection, declared, schema)
    await give_comments(connection, schema)
    await roles.grant_facts(connection, schema)


async def point_views(connection: Connection, generation: int, declared: Declared = NOTHING_DECLARED) -> None:
    """Make the views read one generation; grants on them stay. In a transaction."""
    await read_models.hold_views(connection, declared)
    await read_models.create_views(connection, f"gen_{generation}")
    await read_models.create_event_view(connection)
    await read_models.create_declared_views(connection, declared, f"gen_{generation}")


async def missing_columns(connection: Connection) -> list[str]:
    """Declared columns of fact tables that the live generation does not have."""
    return await _missing_columns(connection, await connection.fetchval(_LIVE_SCHEMA))


async def _missing_columns(connection: Connection, schema: str) -> list[str]:
    rows = await connection.fetch(_COLUMNS_OF_SCHEMA, schema)
    found = {(row["table_name"], row["column_name"]) for row in rows}
    return [f"{table.name}.{c.name}" for table in TABLES for c in table.columns if (table.name, c.name) not in found]


async def plan(connection: Connection) -> list[str]:
    """Everything that `migrate` would do: pending migrations, and columns to add."""
    names = await pending(connection)
    return names or [f"column {name}" for name in await missing_columns(connection)]


async def is_current(connection: Connection) -> bool:
    """True if the schema is this version's; for readiness."""
    return not await plan(connection)


async def price_tiers(connection: Connection) -> dict[str, str]:
    """Those that the database has; none where it has no schema yet."""
    if await connection.fetchval("SELECT to_regclass('redrive.price_tiers')") is None:
        return {}
    rows = await connection.fetch("SELECT price_id, name FROM redrive.price_tiers")
    return {row["price_id"]: row["name"] for row in rows}


async def store_price_tiers(connection: Connection, tiers: dict[str, str]) -> None:
    """Store `[price_tiers]` of redrive.toml as the table that the accounts view joins."""
    async with connection.transaction():
        await connection.execute("DELETE FROM redrive.price_tiers WHERE price_id <> ALL($1::text[])", list(tiers))
        await connection.executemany(
            "INSERT INTO redrive.price_tiers VALUES ($1, $2) ON CONFLICT (price_id) DO UPDATE SET name = EXCLUDED.name",
            list(tiers.items()),
        )
