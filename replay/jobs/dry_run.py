"""A replay's changes in advance: its plan, folded over the live rows that it touches. Must not write a lasting table.

The selection is folded into tables of the session, which no other connection sees and Postgres drops with it, however
the process ends. Joined with the live rows of the same keys they hold what the live tables would: the order of merges
does not matter.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from processors.projections import versions
from processors.store import LIVE_GENERATION, Written
from replay.jobs.plan import Plan
from replay.log.reader import LogReader
from replay.ports import Connection
from replay.tables.diff import PATIENCE_SECONDS, SAMPLES, Diff, difference
from replay.tables.folding import SchemaFolding
from replay.tables.generations import versions_of
from replay.tables.read_models import SESSION, create_facts
from schemas import table_sql
from schemas.facts import TABLES
from schemas.lattice import Table

FACTS: Final = f"{SESSION}._facts_"
PORTION_RECORDS: Final = 1000
"""Folded and not yet written: what bounds the memory, whatever one fetch brings."""

_DROP_TEMPORARY_TABLES: Final[LiteralString] = "DISCARD TEMP"


@dataclass(frozen=True, slots=True)
class TableChange:
    """Fact rows that would be written, what carries the merge included."""

    added: int
    changed: int

    def __bool__(self) -> bool:
        return bool(self.added or self.changed)


@dataclass(frozen=True, slots=True)
class DryRun:
    """`dead`: events that still no projection can apply. `tables`: only those in which something would change.

    `older_code`: projections that folded the generation in an older version. A replay adds what is missing; what those
    made wrong, only a rebuild repairs.
    """

    generation: int
    older_code: list[str]
    dead: int
    tables: dict[str, TableChange]
    diff: Diff

    def as_document(self) -> dict[str, Any]:
        tables = {name: {"added": one.added, "changed": one.changed} for name, one in self.tables.items()}
        said = {"generation": self.generation, "older_code": self.older_code, "dead": self.dead, "tables": tables}
        return {**said, **self.diff.as_document()}


async def dry_run(reader: LogReader, connection: Connection, plan: Plan, advance: Callable[[int], None]) -> DryRun:
    """`connection` is in no transaction. `advance` hears offsets done. Raises `RecordsGone`."""
    async with _scratch(connection):
        dead = await _fold(reader, connection, plan, advance)
        async with connection.transaction(isolation="repeatable_read"):
            live = await connection.fetchval(LIVE_GENERATION)
            tables = {}
            for table in TABLES:
                if change := await _join(connection, table, f"gen_{live}"):
                    tables[table.name] = change
            folded_by = await versions_of(connection, live)
            ours = versions()
            older = sorted(name for name, version in folded_by.items() if version < ours.get(name, version))
            found = await difference(connection, f"gen_{live}", FACTS, SAMPLES, tables)
            return DryRun(live, older, dead, tables, found)


@asynccontextmanager
async def _scratch(connection: Connection) -> AsyncIterator[None]:
    """Fact tables of the session, gone afterwards even where the connection goes back into a pool."""
    try:
        await create_facts(connection, SESSION)
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(_DROP_TEMPORARY_TABLES)


async def _fold(reader: LogReader, connection: Connection, plan: Plan, advance: Callable[[int], None]) -> int:
    """The selected records into the tables of the session; returns how many are dead."""
    dead, folding = 0, SchemaFolding.into(SESSION)
    if not plan.ranges:
        return dead

    async def first() -> None:
        return None

    async def last(outcome: Written) -> None:
        return None

    async for part, records in reader.read(plan.ranges, plan.logs):
        selected = [record for record in records if plan.matcher.is_selected(record, folding.fold)]
        for start in range(0, len(selected), PORTION_RECORDS):
            folded = [folding.fold(record) for record in selected[start : start + PORTION_RECORDS]]
            dead += (await folding.commit(connection, folded, first, last)).dead
        advance(len(part))
    return dead


async def _join(connection: Connection, table: Table[Any], live: str) -> TableChange:
    """Let the session's rows take in the live ones of their keys; make the table as a replay would leave it."""
    # Nothing else gathers statistics of what one session sees.
    await connection.execute(f"ANALYZE {SESSION}.{table.name}")
    await connection.execute(table_sql.absorb(table, SESSION, live), timeout=PATIENCE_SECONDS)
    row: Any = await connection.fetchrow(_count_sql(table, live), timeout=PATIENCE_SECONDS)
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
