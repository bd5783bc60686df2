"""A comparison of the views of `public`, and their price tiers, with those of this version and configuration.

Proofs compare facts, and people read views over them. Must not change a view.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, LiteralString

import asyncpg

from processors.store import LIVE_GENERATION
from replay.locks import Lock, transaction_lock
from replay.ports import Connection
from replay.prove.certificate import Difference, DifferenceKind
from replay.tables.read_models import NOTHING_DECLARED, REFUSALS, SESSION, Declared, declared_beside, views_beside
from schemas.masking import mask_key

_PREFIX: Final = "_expected_"
_GIVE_UP_WAITING: Final[LiteralString] = "SET LOCAL lock_timeout = '2s'"
_DEFINITIONS: Final[LiteralString] = """
    SELECT name, CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END AS definition,
           ARRAY(SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attcollation
                 FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 ORDER BY a.attnum) AS columns
    FROM unnest($1::text[]) AS name
    JOIN pg_class AS c ON c.relname = ($2 || name)::name
     AND c.relnamespace = CASE $2 WHEN '' THEN 'public'::regnamespace::oid ELSE pg_my_temp_schema() END
"""
_TIERS: Final[LiteralString] = "SELECT price_id, name FROM redrive.price_tiers"


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration's part of the views: SQL of users, and the names of price tiers."""

    declared: Declared = NOTHING_DECLARED
    price_tiers: Mapping[str, str] = field(default_factory=dict)


NOTHING_CONFIGURED: Final = Configured()


@dataclass(frozen=True, slots=True)
class _Definition:
    """What Postgres says of a view. `columns` are names with types and collations; `text` is None for a table."""

    text: str | None
    columns: list[str]


@dataclass(frozen=True, slots=True)
class OtherView:
    """A view of `public` that is missing, or has another definition than ours. `columns` are those that differ."""

    name: str
    columns: list[str]
    is_missing: bool
    is_replaceable: bool
    """True if CREATE OR REPLACE VIEW can repair it."""

    def as_difference(self) -> Difference:
        return Difference(table=self.name, key={}, columns=self.columns, kind="definition")

    def __str__(self) -> str:
        if self.is_missing:
            return f"the view public.{self.name} is missing: run `redrive migrate --apply`"
        if self.is_replaceable:
            return f"the view public.{self.name} is not the one that redrive makes: run `redrive migrate --apply`"
        return (
            f"public.{self.name} has other columns than the view that redrive makes, or is not a view: drop it, then"
            " run `redrive migrate --apply`"
        )


async def compare_views(connection: Connection, declared: Declared) -> tuple[list[str], list[OtherView]]:
    """(the views that were compared, those that differ).

    Each is made once more beside the one that people read, and Postgres is asked for the text of both. They are made
    for the connection alone, and are gone before this returns; the connection is in no transaction. Views that users
    declared are left out where this login may not run their SQL. Raises `asyncpg.InsufficientPrivilegeError` for a
    login that may make no temporary view.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        # No flip moves the views meanwhile.
        await transaction_lock(connection, Lock.GENERATION, "shared")
        facts = f"gen_{await connection.fetchval(LIVE_GENERATION)}"
        ours = views_beside(facts, f"{SESSION}.{_PREFIX}")
        names, sql = declared_beside(declared, facts, f"{SESSION}.{_PREFIX}")
        # Before SQL of users is run, which may drop a view to create it again.
        there = await _definitions(connection, [*ours, *names], "")
        for statement in ours.values():
            await _run(connection, statement)
        has_run = await _run_declared(connection, sql)
        wanted = await _definitions(connection, [*ours, *names], _PREFIX)
    finally:
        await transaction.rollback()
    # Where the SQL of users could not be run, nobody knows what its views are to be: only that they are to be there.
    compared = [*ours, *(name for name in names if (name in wanted if has_run else name not in there))]
    found = [_other(name, there.get(name), wanted.get(name)) for name in compared]
    return compared, [one for one in found if one is not None]


async def _run(connection: Connection, sql: str) -> bool:
    """False where Postgres refuses it: what the view reads is not there any more, or has other columns."""
    try:
        async with connection.transaction():
            await connection.execute(sql)
    except REFUSALS as error:
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise
        return False
    return True


async def _run_declared(connection: Connection, sql: str) -> bool:
    """False, too, where this login may not, or a reader has a view that the SQL would drop."""
    await connection.execute(_GIVE_UP_WAITING)
    try:
        return await _run(connection, sql)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.LockNotAvailableError):
        return False


async def _definitions(connection: Connection, names: Sequence[str], prefix: str) -> dict[str, _Definition]:
    rows = await connection.fetch(_DEFINITIONS, names, prefix)
    return {row["name"]: _Definition(row["definition"], row["columns"]) for row in rows}


def _other(name: str, there: _Definition | None, wanted: _Definition | None) -> OtherView | None:
    """None where both are the same."""
    if there is None:
        return OtherView(name, [], is_missing=True, is_replaceable=True)
    if there.text is None:
        return OtherView(name, [], is_missing=False, is_replaceable=False)
    if wanted is None:
        return OtherView(name, [], is_missing=False, is_replaceable=True)
    if there == wanted:
        return None
    differs = [one for one in (*there.columns, *wanted.columns) if (one in there.columns) != (one in wanted.columns)]
    # In the order in which people see them, each name once.
    columns = list(dict.fromkeys(column.split(" ", 1)[0] for column in differs))
    return OtherView(
        name, columns, is_missing=False, is_replaceable=wanted.columns[: len(there.columns)] == there.columns
    )


async def compare_price_tiers(connection: Connection, configured: Mapping[str, str]) -> list[Difference]:
    """The price tiers that the views join, against those of the configuration."""
    stored = {row["price_id"]: row["name"] for row in await connection.fetch(_TIERS)}
    return [
        Difference(
            table="price_tiers",
            key={"price_id": mask_key(price)},
            columns=["name"],
            kind=_kind(price in stored, price in configured),
        )
        for price in sorted(set(stored) | set(configured))
        if stored.get(price) != configured.get(price)
    ]


def _kind(is_stored: bool, is_configured: bool) -> DifferenceKind:
    if not is_configured:
        return "unexpected"
    return "changed" if is_stored else "missing"
