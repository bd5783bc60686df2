"""Roles of least privilege in Postgres: the rights of each part of redrive. Must not make logins or passwords.

They are groups without a login; a login is made a member. Every `redrive migrate --apply` grants their rights again, so
a table of a later version, or a later generation, needs no person.
"""

import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, LiteralString, TypeAlias

import asyncpg

from schemas.errors import Misconfigured
from schemas.facts import PLUGGED_IN

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
_READ: Final = "SELECT"
_APPEND: Final = "SELECT, INSERT"
_MERGE: Final = "SELECT, INSERT, UPDATE"
_REPLACE: Final = "SELECT, INSERT, UPDATE, DELETE"


@dataclass(frozen=True, slots=True)
class Role:
    """`facts`: on the tables of every generation; `tables`: on those of the schema `redrive`."""

    name: str
    facts: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    reads_views: bool = False


ROLES: Final = (
    Role(
        "redrive_processors",
        facts=_MERGE,
        tables={
            "generation": _READ,
            "installation": _READ,
            "migration_checksum": _READ,
            "positions": _MERGE,
            "lost_ranges": _MERGE,
            "ended_losses": _READ,
            # An event that was dead is indexed under another name once it can be read.
            "event_index": _REPLACE,
            # Which code folded a generation.
            "generation_versions": _MERGE,
        },
    ),
    Role(
        "redrive_console",
        # A replay adds what is missing.
        facts=_MERGE,
        tables={
            "generation": _READ,
            "installation": _READ,
            "migration_checksum": _READ,
            # Those belong to the live workers; of generations that are not live, redrive.follow moves them.
            "positions": _READ,
            "generations": _MERGE,
            "generation_versions": _MERGE,
            "scratches": _READ,
            "lost_ranges": _READ,
            # A proof finds that what was lost is there again, or is not any more.
            "ended_losses": _REPLACE,
            "price_tiers": _READ,
            "event_index": _REPLACE,
            "replays": _MERGE,
            "replay_progress": _MERGE,
            "proofs": _MERGE,
            "replay_outcomes": _MERGE,
            "releases": _MERGE,
            "requeues": _MERGE,
            # An operator can't delete the record of an action.
            "audit": _APPEND,
        },
        reads_views=True,
    ),
    Role("redrive_dashboard", reads_views=True),
)
_EXISTING_ROLES: Final[LiteralString] = "SELECT rolname FROM pg_roles WHERE rolname = ANY($1::text[])"
_GENERATION_SCHEMAS: Final[LiteralString] = (
    "SELECT nspname FROM pg_namespace WHERE nspname ~ '^gen_[0-9]+$' ORDER BY nspname"
)


def public_views() -> list[str]:
    """Ours and the plug-ins', in the schema `public`."""
    written = "".join(files("schemas").joinpath(name).read_text() for name in ("views.sql", "event_view.sql"))
    ours = re.findall(r"CREATE OR REPLACE VIEW (?::views|public)\.(\w+)", written)
    return [*ours, *(table.name for table in PLUGGED_IN)]


async def missing(connection: Connection) -> list[str]:
    """Names of roles that the server does not have."""
    found = {role.name for role in await _existing(connection)}
    return [role.name for role in ROLES if role.name not in found]


async def create(connection: Connection) -> list[str]:
    """Make those that are missing. Raises `Misconfigured`, with what a user that may has to run."""
    names = await missing(connection)
    statements = [f"CREATE ROLE {name} NOLOGIN" for name in names]
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise Misconfigured(
            f"the user of DATABASE_URL may not create roles; let one that may run `{'; '.join(statements)}`,"
            " then try again"
        ) from error
    return names


async def grant(connection: Connection) -> None:
    """Grant each role its rights, and no others: to those that exist, in one transaction."""
    generations = [row["nspname"] for row in await connection.fetch(_GENERATION_SCHEMAS)]
    async with connection.transaction():
        for role in await _existing(connection):
            await _revoke(connection, role, ["redrive", *generations])
            if role.tables:
                await connection.execute(f"GRANT USAGE ON SCHEMA redrive TO {role.name}")
            for table, privileges in role.tables.items():
                await connection.execute(f"GRANT {privileges} ON redrive.{table} TO {role.name}")
            if role.reads_views:
                names = ", ".join(f"public.{name}" for name in public_views())
                await connection.execute(f"GRANT SELECT ON {names} TO {role.name}")
        for schema in generations:
            await grant_facts(connection, schema)


async def grant_facts(connection: Connection, schema: str) -> None:
    """On the fact tables of one generation."""
    for role in await _existing(connection):
        if role.facts:
            await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role.name}")
            await connection.execute(f"GRANT {role.facts} ON ALL TABLES IN SCHEMA {schema} TO {role.name}")


async def _revoke(connection: Connection, role: Role, schemas: list[str]) -> None:
    """A privilege that an earlier version gave, or somebody by hand."""
    for schema in schemas:
        await connection.execute(f"REVOKE ALL ON SCHEMA {schema} FROM {role.name}")
        await connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role.name}")


async def _existing(connection: Connection) -> list[Role]:
    rows: list[Any] = await connection.fetch(_EXISTING_ROLES, [role.name for role in ROLES])
    found = {row["rolname"] for row in rows}
    return [role for role in ROLES if role.name in found]
