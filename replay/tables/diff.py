"""Two sets of facts as their read models show them: the rows that differ, and what that amounts to.

Must not know why they are compared. Leaves nothing behind.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, LiteralString

import orjson

from replay.ports import Connection
from replay.tables.read_models import SESSION, create_views, tables_behind
from replay.tables.row_redaction import shown_key, shown_row
from schemas.facts import TABLES, VIEWS_OVER_SEVERAL

SAMPLES: Final = 5
"""Differing rows that are shown of each read model, unless another number is asked for."""

PATIENCE_SECONDS: Final = 6 * 3600.0
"""A service's connections give up on a statement long before whole generations are compared."""

# No table of ours or of a plug-in has a name that begins like these.
BEFORE: Final = f"{SESSION}._before_"
AFTER: Final = f"{SESSION}._after_"

# The zone is that of the times in `differing`; the memory lets views over some 100,000 rows be joined without a file.
_CREATE_DIFFERING: Final[LiteralString] = """
    SET LOCAL timezone = 'UTC';
    SET LOCAL work_mem = '32MB';
    CREATE TABLE pg_temp._differing (view text NOT NULL, key jsonb NOT NULL, before jsonb, after jsonb)
"""
_COUNT_CHANGES: Final[LiteralString] = """
    SELECT view, count(*) FILTER (WHERE before IS NULL) AS added, count(*) FILTER (WHERE after IS NULL) AS removed,
           count(*) FILTER (WHERE before IS NOT NULL AND after IS NOT NULL) AS changed
    FROM pg_temp._differing GROUP BY view
"""
_CHANGED_COLUMNS: Final[LiteralString] = """
    SELECT view, cell.key AS name, count(*) AS rows
    FROM pg_temp._differing, jsonb_each(after) AS cell
    WHERE before IS NOT NULL AND cell.value <> before -> cell.key
    GROUP BY view, cell.key ORDER BY view, cell.key
"""
# A row that is not there is none of what its flags would say.
_COUNT_TRANSITIONS: Final[LiteralString] = """
    SELECT view, name, before ->> name AS was, after ->> name AS is_now, count(*) AS rows
    FROM pg_temp._differing, jsonb_object_keys(coalesce(after, before)) AS name
    WHERE name = 'status' AND before ->> name IS DISTINCT FROM after ->> name
       OR 'boolean' IN (jsonb_typeof(before -> name), jsonb_typeof(after -> name))
          AND coalesce(before ->> name, 'false') <> coalesce(after ->> name, 'false')
    GROUP BY view, name, was, is_now ORDER BY view, name, rows DESC, was, is_now
"""
_SUM_AMOUNTS: Final[LiteralString] = """
    SELECT view, cell.key AS name, side.whole ->> 'currency' AS currency, sum(side.sign * cell.value::numeric) AS delta
    FROM pg_temp._differing, LATERAL (VALUES (-1, before), (1, after)) AS side (sign, whole),
         jsonb_each(side.whole - ARRAY(SELECT jsonb_object_keys(key))) AS cell
    WHERE jsonb_typeof(cell.value) = 'number'
    GROUP BY view, cell.key, currency HAVING sum(side.sign * cell.value::numeric) <> 0 ORDER BY view, name, currency
"""
_LIST_SAMPLES: Final[LiteralString] = """
    SELECT key, before, after FROM pg_temp._differing WHERE view = $1 ORDER BY key LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Transition:
    """The number of rows whose `column` changed from one value to another. None: no such row, or no value."""

    column: str
    was: str | None
    is_now: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class Sum:
    """How much more (or less) a column amounts to, over all rows; by currency where the read model has one."""

    column: str
    currency: str | None
    delta: Decimal


@dataclass(slots=True)
class ViewDiff:
    """One read model. `columns`: how many of the changed rows differ in each."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.added + self.removed + self.changed

    def as_document(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "columns": self.columns,
            "transitions": [
                {"column": one.column, "from": one.was, "to": one.is_now, "rows": one.rows} for one in self.transitions
            ],
            "sums": [
                {"column": one.column, "currency": one.currency, "delta": _number(one.delta)} for one in self.sums
            ],
            "samples": self.samples,
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """Every read model, in the order of their declaration."""

    views: dict[str, ViewDiff]

    @property
    def is_equal(self) -> bool:
        return not any(view.rows for view in self.views.values())

    def as_document(self) -> dict[str, Any]:
        return {"is_equal": self.is_equal, "views": {name: view.as_document() for name, view in self.views.items()}}


async def difference(
    connection: Connection, before: str, after: str, limit: int = SAMPLES, tables: Iterable[str] | None = None
) -> Diff:
    """Compare the read models over two sets of facts, each named as for `read_models.create_views`.

    Both are seen as of one moment: the start of the connection's transaction if it is in a REPEATABLE READ one, else
    now. `limit` bounds the samples of each read model. `tables`: those that may differ, where that is known.
    """
    isolation = None if connection.is_in_transaction() else "repeatable_read"
    transaction = connection.transaction(isolation=isolation)  # type: ignore[arg-type]
    await transaction.start()
    try:
        await connection.execute(_CREATE_DIFFERING)
        await create_views(connection, before, BEFORE)
        await create_views(connection, after, AFTER)
        behind = tables_behind()
        touched = None if tables is None else frozenset(tables)
        for view, read in behind.items():
            if touched is None or read & touched:
                await connection.execute(_compare_sql(view), timeout=PATIENCE_SECONDS)
        return Diff(await _summary(connection, behind, limit))
    finally:
        await transaction.rollback()


def _compare_sql(view: str) -> str:
    keys = _keys(view)
    # A conversation's channel may be NULL, and that is a channel like another. The keys of tables are never NULL, and
    # without `coalesce` they have statistics.
    side = "coalesce({}.{}, '')" if view in VIEWS_OVER_SEVERAL else "{}.{}"
    on = " AND ".join(f"{side.format('_was', key)} = {side.format('_is', key)}" for key in keys)
    key = ", ".join(f"'{key}', coalesce(after, before) -> '{key}'" for key in keys)
    # The parts are names of our own declarations, and of plug-ins': no column of theirs is called like the aliases.
    return (
        f"INSERT INTO pg_temp._differing SELECT '{view}', jsonb_build_object({key}), before, after FROM ("  # noqa: S608
        "SELECT to_jsonb(_was) AS before, to_jsonb(_is) AS after "
        f"FROM {BEFORE}{view} AS _was FULL JOIN {AFTER}{view} AS _is ON {on} "
        "WHERE _was IS DISTINCT FROM _is) AS differing"
    )


def _keys(view: str) -> tuple[str, ...]:
    return VIEWS_OVER_SEVERAL.get(view) or next(table.keys for table in TABLES if table.name == view)


async def _summary(connection: Connection, views: Iterable[str], limit: int) -> dict[str, ViewDiff]:
    found = {view: ViewDiff() for view in views}
    for row in await connection.fetch(_COUNT_CHANGES, timeout=PATIENCE_SECONDS):
        of = found[row["view"]]
        of.added, of.removed, of.changed = row["added"], row["removed"], row["changed"]
    for row in await connection.fetch(_CHANGED_COLUMNS, timeout=PATIENCE_SECONDS):
        found[row["view"]].columns[row["name"]] = row["rows"]
    for row in await connection.fetch(_COUNT_TRANSITIONS, timeout=PATIENCE_SECONDS):
        found[row["view"]].transitions.append(Transition(row["name"], row["was"], row["is_now"], row["rows"]))
    for row in await connection.fetch(_SUM_AMOUNTS, timeout=PATIENCE_SECONDS):
        found[row["view"]].sums.append(Sum(row["name"], row["currency"], row["delta"]))
    for view, of in found.items():
        if of.rows:
            rows = await connection.fetch(_LIST_SAMPLES, view, limit, timeout=PATIENCE_SECONDS)
            of.samples = [_sample(row) for row in rows]
    return found


def _sample(row: Any) -> dict[str, Any]:
    """The changed columns of a changed row; all columns of another."""
    before, after = (None if row[side] is None else orjson.loads(row[side]) for side in ("before", "after"))
    key = orjson.loads(row["key"])
    known = set(key)
    if before is not None and after is not None:
        known |= {name for name in before if before[name] == after[name]}
    return {"key": shown_key(key), "before": shown_row(before, known), "after": shown_row(after, known)}


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
