"""Every table, view and column says in Postgres what it holds; whatever becomes of generations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from deploy import migrate
from replay.tables.read_models import tables_behind
from schemas import facts
from schemas.comments import comments_of
from schemas.lattice import Fact, Key, Max, Table
from tests.support.registries import put_back_afterwards

SILENT = """
    SELECT c.relname::text || coalesce('.' || a.attname, '')
    FROM pg_class AS c
    LEFT JOIN LATERAL (
        SELECT NULL::name AS attname, 0 AS attnum
        UNION ALL SELECT attname, attnum FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    ) AS a ON true
    LEFT JOIN pg_description AS d
           ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
    WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'v')
      AND ($1 <> 'public' OR c.relname = ANY($2::text[])) AND coalesce(d.description, '') = ''
    ORDER BY 1
"""
ALL = "SELECT objoid, objsubid, description FROM pg_description WHERE classoid = 'pg_class'::regclass ORDER BY 1, 2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact(Fact):
    """A person's contact, with what's known of it."""

    source: Annotated[str, Key()]
    calls: Annotated[int | None, Max()] = None


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with put_back_afterwards():
        yield


async def silent(connection: Any, *schemas: str) -> list[str]:
    """What has no comment: write one in schemas/view_comments.py or schemas/redrive_comments.py."""
    ours = [*tables_behind(), "webhook_events"]
    return [f"{schema}.{row[0]}" for schema in schemas for row in await connection.fetch(SILENT, schema, ours)]


async def test_nothing_of_ours_is_without_a_comment(connection: Any) -> None:
    assert await silent(connection, "public", "redrive", "gen_1") == []


async def test_a_unit_stands_where_a_number_needs_one(connection: Any) -> None:
    rows = await connection.fetch(
        "SELECT attname AS name, col_description(attrelid, attnum) AS text FROM pg_attribute"
        " WHERE attrelid = 'public.payments'::regclass AND atttypid = 'bigint'::regtype"
    )
    assert rows
    assert all("smallest unit" in row["text"] for row in rows)
    text = await connection.fetchval(
        "SELECT col_description('gen_1.calls'::regclass, attnum) FROM pg_attribute"
        " WHERE attrelid = 'gen_1.calls'::regclass AND attname = 'duration_seconds'"
    )
    assert text.startswith("seconds")
    assert text.endswith("(of the latest event that speaks of outcome)")


async def test_new_generations_get_them_and_flips_and_migrations_keep_them(connection: Any, database_url: str) -> None:
    before = await connection.fetch(ALL)
    await migrate.create_generation(connection, 2)
    await migrate.point_views(connection, 2)
    assert await silent(connection, "public", "redrive", "gen_1", "gen_2") == []
    await migrate.point_views(connection, 1)
    await connection.execute("DROP SCHEMA gen_2 CASCADE")
    assert await connection.fetch(ALL) == before
    await connection.execute(
        "COMMENT ON COLUMN redrive.positions.next_offset IS NULL; COMMENT ON VIEW public.accounts IS 'of before'"
    )
    await migrate.migrate(connection, database_url)
    assert await connection.fetch(ALL) == before


async def test_the_tables_of_plug_ins_get_them_too(connection: Any, database_url: str) -> None:
    facts.register(Table("contacts", Contact))
    await migrate.migrate(connection, database_url)
    ours = ["contacts"]
    for schema in ("public", "gen_1"):
        assert await connection.fetch(SILENT, schema, ours) == []
    said = await connection.fetchval("SELECT obj_description('public.contacts'::regclass)")
    assert said == "A person's contact, with what's known of it."


def test_no_comment_is_of_a_column_that_is_no_longer_there() -> None:
    tables = {table.name: {column.name for column in table.columns} for table in facts.TABLES}
    for name, one in comments_of("gen_1").items():
        assert one.columns.keys() == tables[name]
