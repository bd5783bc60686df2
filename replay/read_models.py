"""The tables and views of one fold, in any schema: a generation, or one to throw away. Must not fold anything."""

from importlib.resources import files
from typing import Final

import asyncpg

from replay.ports import Connection
from schemas.errors import Misconfigured
from schemas.facts import PLUGGED_IN, TABLES

PUBLIC: Final = "public"
SESSION: Final = "pg_temp"
"""Views there are seen by one connection, and gone with it."""


async def create_facts(connection: Connection, schema: str, is_kept: bool = True) -> None:
    """The schema and its fact tables, where they are missing. What is not kept is empty after a crash of Postgres."""
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for table in TABLES:
        ddl = table.ddl(schema)
        await _declare(connection, ddl if is_kept else ddl.replace("CREATE TABLE", "CREATE UNLOGGED TABLE", 1))


async def create_views(connection: Connection, facts: str, views: str = PUBLIC) -> None:
    """The read models over the facts in one schema, as views in another; grants on those that are there stay."""
    sql = _sql("views.sql").replace(":gen.", f"{facts}.").replace(":views.", f"{views}.")
    await connection.execute(sql)
    for table in PLUGGED_IN:
        await _declare(connection, table.view_ddl(facts, views))


async def create_event_view(connection: Connection) -> None:
    """`webhook_events`, which no fold has to do with."""
    await connection.execute(_sql("event_view.sql"))


def _sql(name: str) -> str:
    return files("schemas").joinpath(name).read_text()


async def _declare(connection: Connection, ddl: str) -> None:
    """A plug-in's names can be reserved words, or those of tables that the user has."""
    try:
        await connection.execute(ddl)
    except asyncpg.SyntaxOrAccessError as error:
        statement = ddl.partition("(")[0].partition(" AS ")[0].strip()
        raise Misconfigured(f"Postgres refuses {statement}: {error}") from error
