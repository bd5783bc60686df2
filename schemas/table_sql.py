"""The SQL of a table of facts, made from its declaration: the same merge as `Table.join`, as a statement.

Must not hold a value: values only ever travel as parameters.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from schemas.lattice import DISAGREEMENT, Column, Min, Policy, Ranked, Table
from schemas.version_bytes import HEAD_BYTES

_SQL_TYPES: Final[dict[type, str]] = {
    str: 'text COLLATE "C"',
    int: "bigint",
    bool: "boolean",
    datetime: "timestamptz",
    Decimal: "numeric(12,3)",
    bytes: "bytea",
}
_ARRAY_TYPES: Final[dict[type, str]] = {
    str: "text[]",
    int: "bigint[]",
    bool: "boolean[]",
    datetime: "timestamptz[]",
    Decimal: "numeric[]",
    bytes: "bytea[]",
}


def create(table: Table[Any], schema: str) -> str:
    """CREATE TABLE for one generation."""
    lines = [f"    {column(table, declared)}" for declared in table.columns]
    lines.append(f"    PRIMARY KEY ({', '.join(table.keys)})")
    return f"CREATE TABLE IF NOT EXISTS {schema}.{table.name} (\n" + ",\n".join(lines) + "\n)"


def view(table: Table[Any], facts: str, views: str) -> str:
    """CREATE VIEW of the declared columns, without those that carry the merge. Grants on it stay.

    Both arguments are the prefix of the name: `gen_1.`.
    """
    names = ", ".join(column.name for column in table.columns if not column.is_hidden)
    return f"CREATE OR REPLACE VIEW {views}{table.name} AS SELECT {names} FROM {facts}{table.name}"  # noqa: S608


def column(table: Table[Any], declared: Column) -> str:
    """Name, type and null-ness, as in CREATE TABLE and ALTER TABLE."""
    null = " NOT NULL" if declared.name in table.keys else ""
    if declared.type is bytes:
        null = " NOT NULL DEFAULT ''"
    elif declared.name == DISAGREEMENT:
        null = " NOT NULL DEFAULT false"
    return f"{declared.name} {_SQL_TYPES[declared.type]}{null}"


def upsert(table: Table[Any], schema: str) -> str:
    """One statement that joins arrays of rows, one array per column, into the table.

    A row that brings nothing new is not rewritten, so that a replay leaves no dead tuples and touches no page.
    """
    arrays = ", ".join(f"${i}::{_ARRAY_TYPES[column.type]}" for i, column in enumerate(table.columns, start=1))
    return _joined(table, schema, f"SELECT * FROM unnest({arrays})")  # noqa: S608


def absorb(table: Table[Any], schema: str, other: str) -> str:
    """One statement that joins into the rows of one schema what another holds under their keys."""
    keys = " AND ".join(f"ours.{key} = theirs.{key}" for key in table.keys)
    rows = (
        f"SELECT {table.names} FROM {other}.{table.name} AS theirs "  # noqa: S608
        f"WHERE EXISTS (SELECT FROM {schema}.{table.name} AS ours WHERE {keys})"
    )
    return _joined(table, schema, rows)


def _joined(table: Table[Any], schema: str, rows: str) -> str:
    sets: list[str] = []
    news: list[str] = []
    disagreements: list[str] = []
    for group in table.groups:
        version = table.columns[group.version].name
        newer = f"EXCLUDED.{version} > t.{version}"
        news.append(newer)
        sets.append(f"{version} = GREATEST(t.{version}, EXCLUDED.{version})")
        if group.is_constant:
            (name,) = group.names
            sets.append(f"{name} = CASE WHEN {newer} THEN EXCLUDED.{name} ELSE t.{name} END")
            disagreements.append(f"coalesce(t.{name} <> EXCLUDED.{name}, false)")
            continue
        tie = _tie_sql(version)
        for name in group.names:
            greater = f"GREATEST(t.{name}, EXCLUDED.{name})"
            sets.append(f"{name} = CASE WHEN {tie} THEN {greater} WHEN {newer} THEN EXCLUDED.{name} ELSE t.{name} END")
        gains = " OR ".join(f"GREATEST(t.{name}, EXCLUDED.{name}) IS DISTINCT FROM t.{name}" for name in group.names)
        news.append(f"(({gains}) AND {tie})")
    for position, policy in table.independent:
        name = table.columns[position].name
        if name == DISAGREEMENT:
            terms = " OR ".join([f"t.{name}", f"EXCLUDED.{name}", *disagreements])
            sets.append(f"{name} = {terms}")
            news.append(f"(NOT t.{name} AND ({terms}))")
            continue
        merged = _merge_sql(policy, name)
        sets.append(f"{name} = {merged}")
        news.append(f"{merged} IS DISTINCT FROM t.{name}")
    action = f"UPDATE SET {', '.join(sets)} WHERE {' OR '.join(news)}" if sets else "NOTHING"
    # The parts are identifiers and policies of our own declarations; values only ever travel as parameters.
    return (
        f"INSERT INTO {schema}.{table.name} AS t ({table.names}) {rows} "
        f"ON CONFLICT ({', '.join(table.keys)}) DO {action}"
    )


def _tie_sql(version: str) -> str:
    """True if both versions have the same (time, rank, id): everything before the separator.

    Most facts leave most groups empty, and an empty version is the cheapest to compare.
    """
    head = f"{HEAD_BYTES} + position('\\x00'::bytea IN substring(t.{version} FROM {HEAD_BYTES + 1}))"
    same = f"substring(t.{version} FOR {head}) = substring(EXCLUDED.{version} FOR {head})"
    return f"(EXCLUDED.{version} <> '' AND {same})"


def _merge_sql(policy: Policy, name: str) -> str:
    if isinstance(policy, Min):
        return f"LEAST(t.{name}, EXCLUDED.{name})"
    if isinstance(policy, Ranked):
        values = "ARRAY[" + ", ".join(f"'{value}'" for value in policy.values) + "]"

        def rank(row: str) -> str:
            return f"coalesce(array_position({values}, {row}.{name}), 0)"

        return f"CASE WHEN {rank('EXCLUDED')} > {rank('t')} THEN EXCLUDED.{name} ELSE t.{name} END"
    return f"GREATEST(t.{name}, EXCLUDED.{name})"
