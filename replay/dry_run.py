"""What a replay would change: its plan, folded over the live rows that it touches. Must not write a table that stays.

The selection is folded into tables of the session, which no other connection sees and Postgres drops with it, however
the process ends. Joined with the live rows of the same keys they hold what the live tables would: a merge does not ask
in which order it was told.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from replay.diff import SAMPLES, Diff, difference
from replay.plan import Plan, is_selected
from replay.ports import Connection, Folding, Outcome
from replay.read_models import SESSION, create_facts
from replay.window import LogReader
from schemas.facts import TABLES
from schemas.lattice import Table

FACTS: Final = f"{SESSION}._facts_"
_LIVE: Final[LiteralString] = "SELECT live FROM redrive.generation"
_FORGET: Final[LiteralString] = "DISCARD TEMP"


@dataclass(frozen=True, slots=True)
class TableChange:
    """Fact rows that would be written, what carries the merge included."""

    added: int
    changed: int

    def __bool__(self) -> bool:
        return bool(self.added or self.changed)


@dataclass(frozen=True, slots=True)
class DryRun:
    """`dead`: records that still no projection can apply. `tables`: only those in which something would change."""

    generation: int
    dead: int
    tables: dict[str, TableChange]
    diff: Diff

    def as_document(self) -> dict[str, Any]:
        tables = {name: {"added": one.added, "changed": one.changed} for name, one in self.tables.items()}
        return {"generation": self.generation, "dead": self.dead, "tables": tables, **self.diff.as_document()}


async def dry_run(
    reader: LogReader, connection: Connection, plan: Plan, folding: Folding, advance: Callable[[int], None]
) -> DryRun:
    """`folding` is into `SESSION`; `connection` is in no transaction. `advance` hears offsets done."""
    async with _scratch(connection):
        dead = await _fold(reader, connection, plan, folding, advance)
        async with connection.transaction(isolation="repeatable_read"):
            live = await connection.fetchval(_LIVE)
            tables = {}
            for table in TABLES:
                if change := await _join(connection, table, f"gen_{live}"):
                    tables[table.name] = change
            return DryRun(live, dead, tables, await difference(connection, f"gen_{live}", FACTS, SAMPLES, tables))


@asynccontextmanager
async def _scratch(connection: Connection) -> AsyncIterator[None]:
    """Fact tables of the session, gone afterwards even where the connection goes back into a pool."""
    try:
        await create_facts(connection, SESSION)
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(_FORGET)


async def _fold(
    reader: LogReader, connection: Connection, plan: Plan, folding: Folding, advance: Callable[[int], None]
) -> int:
    """The selected records into the tables of the session; returns how many are dead."""
    dead = 0
    if not plan.ranges:
        return dead

    async def first() -> None:
        return None

    async def last(outcome: Outcome) -> None:
        return None

    async for part, records in reader.read(plan.ranges):
        folded = [folding.fold(record) for record in records if is_selected(plan.selection, record, folding.fold)]
        outcome = await folding.commit(connection, folded, first, last)
        dead += outcome.dead
        advance(len(part))
    return dead


async def _join(connection: Connection, table: Table[Any], live: str) -> TableChange:
    """Let the session's rows take in the live ones of their keys; make the table as a replay would leave it."""
    # Nothing else gathers statistics of what one session sees.
    await connection.execute(f"ANALYZE {SESSION}.{table.name}")
    await connection.execute(table.absorb_sql(SESSION, live))
    row: Any = await connection.fetchrow(_count_sql(table, live))
    change = TableChange(row["added"], row["changed"])
    await connection.execute(_facts_sql(table, live, change))
    return change


def _count_sql(table: Table[Any], live: str) -> str:
    ours, theirs = (", ".join(f"{side}.{column.name}" for column in table.columns) for side in ("ours", "theirs"))
    is_new = f"theirs.{table.keys[0]} IS NULL"
    return (
        f"SELECT count(*) FILTER (WHERE {is_new}) AS added, count(*) FILTER (WHERE NOT {is_new}) AS changed "  # noqa: S608
        f"FROM {SESSION}.{table.name} AS ours LEFT JOIN {live}.{table.name} AS theirs ON {_same_key(table)} "
        f"WHERE ROW({ours}) IS DISTINCT FROM ROW({theirs})"
    )


def _facts_sql(table: Table[Any], live: str, change: TableChange) -> str:
    made = f"CREATE VIEW {FACTS}{table.name} AS SELECT {table.names} FROM {live}.{table.name} AS theirs"  # noqa: S608
    if not change:
        return made
    return (
        f"{made} WHERE NOT EXISTS (SELECT FROM {SESSION}.{table.name} AS ours WHERE {_same_key(table)}) "  # noqa: S608
        f"UNION ALL SELECT {table.names} FROM {SESSION}.{table.name}"
    )


def _same_key(table: Table[Any]) -> str:
    return " AND ".join(f"ours.{key} = theirs.{key}" for key in table.keys)
