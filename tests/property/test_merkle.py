"""A root is equal where the rows are, different where one cell is not, and what docs/reference/certificate.md computes."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.prove.merkle import BUCKETS, TableHash, canonical_columns, hash_table
from schemas import table_sql
from schemas.facts import PAYMENTS, TABLES
from schemas.lattice import Key, Row, Table
from tests.property.strategies import rows
from tests.support.amounts import amount

PAGE = (Path(__file__).parents[2] / "docs/reference/certificate.md").read_text()
(PROGRAM,) = re.findall(r'^```python title="root.py"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
page: dict[str, Any] = {}
exec(PROGRAM, page)

every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


async def stored(connection: Any, table: Table[Any], found: list[Row]) -> tuple[TableHash, str]:
    """Hash and root of a table with these rows: ours, and the page's of what a client reads."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        if found:
            await connection.execute(table_sql.upsert(table, "gen_1"), *table.arrays(found))
        names = [column.name for column in table.columns]
        read = [dict(row) for row in await connection.fetch(f"SELECT {', '.join(names)} FROM gen_1.{table.name}")]
        return await hash_table(connection, "gen_1", table), page["root"](read, names, table.keys)
    finally:
        await transaction.rollback()


@every_table
@settings(max_examples=amount(6, 12))
@given(data=st.data())
async def test_roots_are_equal_where_the_rows_are_and_only_there(
    table: Table[Any], data: st.DataObject, shared_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    one = table.join_all(data.draw(st.lists(rows(table), max_size=5)))
    other = data.draw(st.just(one) | st.builds(table.join_all, st.lists(rows(table), max_size=5)))
    hashes = []
    for found in (one, data.draw(st.permutations(other))):
        ours, theirs = await stored(shared_connection, table, list(found))
        assert (ours.root, ours.rows) == (theirs, len(found))
        hashes.append(ours)
    first, second = hashes
    assert (first.root == second.root) == (set(one) == set(other))
    assert (first.root == second.root) == (first.differing(second) == [])


@every_table
async def test_every_column_is_under_the_root(
    table: Table[Any], shared_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """NULL, and two values that are not, in each column of one row: three roots."""
    connection = shared_connection
    where = " AND ".join(f"{name} = 'k'" for name in table.keys)
    values = ", ".join("'k'" for _ in table.keys)
    insert = f"INSERT INTO gen_1.{table.name} ({', '.join(table.keys)}) VALUES ({values})"
    others = {str: ("''", "'NULL'"), int: ("0", "1"), bool: ("true", "false"), bytes: ("'\\x00'", "'\\x0000'")}
    for column in canonical_columns(table):
        if isinstance(column.policy, Key):
            continue
        roots, states = set(), others.get(column.type, ("'0001-01-01'", "'infinity'"))
        if column.type is Decimal:
            states = ("0", "'NaN'")
        is_nullable = "NOT NULL" not in table_sql.column(table, column)
        for state in (*states, *(["NULL"] if is_nullable else [])):
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(insert)
                await connection.execute(f"UPDATE gen_1.{table.name} SET {column.name} = {state} WHERE {where}")
                roots.add((await hash_table(connection, "gen_1", table)).root)
            finally:
                await transaction.rollback()
        assert len(roots) == 2 + is_nullable, column.name


def test_a_difference_is_in_its_bucket_alone() -> None:
    leaves = {n: bytes([n % 251]) * 32 for n in range(0, BUCKETS, 3)}
    one = TableHash(9, leaves)
    for bucket in (0, 1, 2047, BUCKETS - 1):
        other = TableHash(9, {**leaves, bucket: b"x" * 32})
        assert one.differing(other) == [bucket]
        assert one.root != other.root


async def test_no_two_rows_have_one_text(shared_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A value that looks like the end of one column and the start of the next."""
    insert = "INSERT INTO gen_1.payments (source, payment_intent_id, currency, customer_id) VALUES ('s', 'p', {})"
    seen = set()
    for values in ("'a;customer_id=1:b', NULL", "'a', 'b'", "NULL, 'a'", "'', 'a'", "'-', 'a'"):
        transaction = shared_connection.transaction()
        await transaction.start()
        try:
            await shared_connection.execute(insert.format(values))
            seen.add((await hash_table(shared_connection, "gen_1", PAYMENTS)).root)
        finally:
            await transaction.rollback()
    assert len(seen) == 5
