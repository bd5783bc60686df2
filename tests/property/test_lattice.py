"""Invariant 5: fact tables are join-semilattices, and the upsert SQL is the Python join."""

from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import table_sql
from schemas.facts import TABLES
from schemas.lattice import Row, Table
from tests.property.strategies import rows, versions
from tests.support.amounts import amount

every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


@st.composite
def same_key(draw: st.DrawFn, table: Table[Any], count: int) -> list[Row]:
    """Rows of one key, of which most tie: two versions between them, or one."""
    said = st.sampled_from(draw(st.lists(versions(), min_size=1, max_size=2)))
    found = [draw(rows(table, said)) for _ in range(count)]
    width = len(table.keys)
    return [found[0][:width] + row[width:] for row in found]


@every_table
@given(data=st.data())
def test_join_is_commutative(table: Table[Any], data: st.DataObject) -> None:
    a, b = data.draw(same_key(table, 2))
    assert table.join(a, b) == table.join(b, a)


@every_table
@given(data=st.data())
def test_join_is_associative(table: Table[Any], data: st.DataObject) -> None:
    a, b, c = data.draw(same_key(table, 3))
    assert table.join(table.join(a, b), c) == table.join(a, table.join(b, c))


@every_table
@given(data=st.data())
def test_join_is_idempotent(table: Table[Any], data: st.DataObject) -> None:
    a, b = data.draw(same_key(table, 2))
    assert table.join(a, a) == a
    joined = table.join(a, b)
    assert table.join(joined, a) == joined
    assert table.join(joined, b) == joined


@every_table
@given(data=st.data())
def test_of_facts_that_tie_no_known_value_is_lost(table: Table[Any], data: st.DataObject) -> None:
    """NULL is the bottom inside a group as well; a conflict of one event can only add."""
    said = st.just(data.draw(versions()))
    (a, b), width = [data.draw(rows(table, said)) for _ in range(2)], len(table.keys)
    joined = table.join(a, a[:width] + b[width:])
    in_groups = {member for group in table.groups for member in group.members}
    for place, column in enumerate(table.columns):
        if place in in_groups and not _is_of_lower_rank(table, column.name, a, b):
            assert (joined[place] is None) is (a[place] is None and b[place] is None), column.name


def _is_of_lower_rank(table: Table[Any], name: str, a: Row, b: Row) -> bool:
    """What hangs on a status is gone with it."""
    for group in table.groups:
        if name in group.names and group.ranks:
            return bool(a[group.members[0]] != b[group.members[0]])
    return False


@every_table
@settings(max_examples=amount(12, 60))
@given(data=st.data())
async def test_the_upsert_is_the_python_join(
    table: Table[Any], data: st.DataObject, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    said = st.sampled_from(data.draw(st.lists(versions(), min_size=1, max_size=3)))
    batches = data.draw(st.lists(st.lists(rows(table, said), min_size=1, max_size=6), min_size=1, max_size=5))
    transaction = connection.transaction()
    await transaction.start()
    try:
        for batch in batches:
            await connection.execute(table_sql.upsert(table, "gen_1"), *table.arrays(table.join_all(batch)))
        columns = ", ".join(column.name for column in table.columns)
        stored = {
            tuple(row)[: len(table.keys)]: tuple(row)
            for row in await connection.fetch(f"SELECT {columns} FROM gen_1.{table.name}")
        }
    finally:
        await transaction.rollback()
    expected = {table.key(row): row for row in table.join_all(row for batch in batches for row in batch)}
    assert stored == expected


@every_table
@settings(max_examples=amount(6, 25))
@given(data=st.data())
async def test_writing_again_rewrites_no_row(
    table: Table[Any], data: st.DataObject, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Invariant 8: a replay leaves not even a dead tuple behind."""
    batch = data.draw(st.lists(rows(table), min_size=1, max_size=8))
    transaction = connection.transaction()
    await transaction.start()
    try:
        written = table.arrays(table.join_all(batch))
        await connection.execute(table_sql.upsert(table, "gen_1"), *written)
        assert await connection.execute(table_sql.upsert(table, "gen_1"), *written) == "INSERT 0 0"
    finally:
        await transaction.rollback()
