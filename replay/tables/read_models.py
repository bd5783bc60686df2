"""The tables and views of one fold, in any schema: a generation, or one to throw away. Must not fold anything."""

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import asyncpg

from replay.ports import Connection
from schemas import table_sql
from schemas.errors import Misconfigured
from schemas.facts import PLUGGED_IN, TABLES

PUBLIC: Final = "public"
SESSION: Final = "pg_temp"
"""The schema of one connection's own relations, which end with it. Postgres lets every role create tables there."""

_VIEW: Final = "CREATE OR REPLACE VIEW :views."
_EVENT_VIEW: Final = "CREATE OR REPLACE VIEW public."
_DECLARED_VIEW: Final = re.compile(r"\bVIEW\s+:views\.(\w+)(?=\s*(?:\(|AS\b|WITH\b))", re.IGNORECASE)
_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_GONE: Final = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL"
_VIEWS: Final = """
    SELECT v.name FROM unnest($1::text[]) WITH ORDINALITY AS v (name, place)
    JOIN pg_class AS c ON c.relname = v.name AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
    ORDER BY v.place
"""
REFUSALS: Final = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.DataError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.DependentObjectsStillExistError,
)
"""What Postgres says of SQL that can't work, however often it is run."""


@dataclass(frozen=True, slots=True)
class Declared:
    """Users' SQL, which can be run again: indexes on `:gen.<table>`, views `:views.<name>` over either."""

    indexes: str = ""
    views: str = ""


NOTHING_DECLARED: Final = Declared()


async def create_facts(connection: Connection, schema: str, is_kept: bool = True) -> None:
    """Create the schema and its missing fact tables. Without `is_kept` they are empty after a crash of Postgres."""
    if schema != SESSION:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for table in TABLES:
        ddl = table_sql.create(table, schema)
        await _declare(connection, ddl if is_kept else ddl.replace("CREATE TABLE", "CREATE UNLOGGED TABLE", 1))


async def hold_views(connection: Connection, declared: Declared) -> None:
    """Lock the views of `public` until the transaction's end, those first that read others: as readers of them do. They
    are made in the other order, in which a reader and a flip would wait for one another.
    """
    ours = [*tables_behind(), *_declared_names(declared)]
    found = await connection.fetch(_VIEWS, ours[::-1])
    for row in found:
        # Changes nothing. LOCK TABLE would lock the tables behind a view, too.
        await connection.execute(f'ALTER VIEW public."{row["name"]}" RESET (security_barrier)')


async def create_views(connection: Connection, facts: str, views: str = PUBLIC) -> None:
    """The read models over the facts in one schema, as views in another; grants on those that are there stay.

    Where one schema holds several sets, each has a prefix to its names: `pg_temp._before_`. Raises `Misconfigured`
    where something of that name is in the way.
    """
    try:
        await connection.execute(_placed(_sql("views.sql"), facts, views))
    except asyncpg.InsufficientPrivilegeError:
        raise
    except asyncpg.SyntaxOrAccessError as error:
        # A view that somebody replaced by another one with more columns, or by a table.
        raise Misconfigured(f"Postgres refuses the views of this version: {error}; drop what it names") from error
    for table in PLUGGED_IN:
        await _declare(connection, table_sql.view(table, _place(facts), _place(views)))


def views_beside(facts: str, prefix: str) -> dict[str, str]:
    """View of `public` -> SQL that makes it a second time, over the same facts and the same views of `public`.

    The second one has the prefix to its name, which may hold a schema: `pg_temp._expected_`.
    """
    found = {}
    for head, text in ((_VIEW, _sql("views.sql")), (_EVENT_VIEW, _sql("event_view.sql"))):
        for statement in text.split(head)[1:]:
            found[statement.split(maxsplit=1)[0]] = f"CREATE VIEW {prefix}{_placed(statement, facts, PUBLIC)}"
    return found | {table.name: table_sql.view(table, _place(facts), prefix) for table in PLUGGED_IN}


def declared_beside(declared: Declared, facts: str, prefix: str) -> tuple[list[str], str]:
    """(the views that users added, SQL that makes them a second time), as `views_beside` does for ours."""
    names = _declared_names(declared)
    # Comments alone are not a statement, and the driver has no answer to them.
    return names, _placed(_DECLARED_VIEW.sub(rf"VIEW {prefix}\1", declared.views), facts, PUBLIC) + "\n; SELECT 1"


def _declared_names(declared: Declared) -> list[str]:
    return [name.lower() for name in _DECLARED_VIEW.findall(_COMMENT.sub("", declared.views))]


def tables_behind() -> dict[str, frozenset[str]]:
    """Read models, in the order of their declaration, and the fact tables that each is computed from."""
    found: dict[str, frozenset[str]] = {}
    for statement in _sql("views.sql").split(_VIEW)[1:]:
        view = statement.split(maxsplit=1)[0]
        others = [found[name] for name in re.findall(r":views\.(\w+)", statement)]
        found[view] = frozenset(re.findall(r":gen\.(\w+)", statement)).union(*others)
    return found | {table.name: frozenset({table.name}) for table in PLUGGED_IN}


def _place(schema: str) -> str:
    return schema if "." in schema else f"{schema}."


async def create_declared_indexes(connection: Connection, declared: Declared, facts: str) -> None:
    """Raises `Misconfigured`."""
    await _run_declared(connection, "indexes", declared.indexes, facts, facts)


async def create_declared_views(connection: Connection, declared: Declared, facts: str, views: str = PUBLIC) -> None:
    """Those that users added, after ours, which they may read. Raises `Misconfigured`."""
    await _run_declared(connection, "views", declared.views, facts, views)


async def _run_declared(connection: Connection, entry: str, sql: str, facts: str, views: str) -> None:
    if not sql:
        return
    try:
        async with connection.transaction():
            # Comments alone are not a statement, and the driver has no answer to them.
            await connection.execute(_placed(sql, facts, views) + "\n; SELECT 1")
            gone = await connection.fetch(_GONE, [f"{_place(facts)}{table.name}" for table in TABLES])
            if gone:
                named = ", ".join(row["name"] for row in gone)
                raise Misconfigured(f"read_models.{entry} of redrive.toml: it drops {named}")
    except REFUSALS as error:
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise
        raise Misconfigured(f"read_models.{entry} of redrive.toml: Postgres refuses it: {error}") from error


def _placed(sql: str, facts: str, views: str) -> str:
    return sql.replace(":gen.", _place(facts)).replace(":views.", _place(views))


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
