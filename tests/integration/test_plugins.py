"""A plug-in's table is part of the generation, with a view; what is in its way is named, and nothing is changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import asyncpg
import pytest

from deploy import generation_check, migrate
from replay.tables.read_models import NOTHING_DECLARED
from schemas import facts
from schemas.errors import Misconfigured
from schemas.lattice import Fact, Key, Table
from tests.support.registries import put_back_afterwards
from tests.support.workshop import Contact


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved(Fact):
    order: Annotated[str, Key()]


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with put_back_afterwards():
        yield


async def columns(connection: "asyncpg.Connection[asyncpg.Record]", schema: str, table: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2"
        " ORDER BY ordinal_position",
        schema,
        table,
    )
    return [row["column_name"] for row in rows]


async def test_migrate_makes_its_table_and_a_view_of_its_declared_columns(
    connection: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    facts.register(Table("contacts", Contact))
    assert "column contacts.name" in await migrate.plan(connection)
    assert not await migrate.is_current(connection)
    await migrate.migrate(connection, database_url)
    assert await migrate.is_current(connection)
    declared = ["source", "contact_id", "name", "created_at"]
    assert await columns(connection, "gen_1", "contacts") == [*declared, "name_version"]
    assert await columns(connection, "public", "contacts") == declared

    await migrate.create_generation(connection, 2)
    await migrate.point_views(connection, 2)
    definition = await connection.fetchval("SELECT pg_get_viewdef('public.contacts'::regclass)")
    assert "gen_2.contacts" in definition


@pytest.mark.parametrize(
    ("fact", "there_is"),
    [
        (Contact, "CREATE TABLE public.contacts (id text)"),
        (Contact, "CREATE VIEW public.contacts AS SELECT 1 AS one"),
        (Reserved, "SELECT 1"),
    ],
)
async def test_a_table_that_can_not_be_is_the_users_to_mend(
    connection: "asyncpg.Connection[asyncpg.Record]", database_url: str, fact: type[Fact], there_is: str
) -> None:
    await connection.execute(there_is)
    facts.register(Table("contacts", fact))
    before = await columns(connection, "public", "contacts")
    with pytest.raises(Misconfigured, match=r"Postgres refuses CREATE .*\.contacts: "):
        await migrate.migrate(connection, database_url)
    assert await columns(connection, "public", "contacts") == before
    assert await columns(connection, "gen_1", "contacts") == []


@pytest.mark.parametrize("name", ["contacts", "user"])
async def test_check_does_not_warn_of_a_plug_ins_table(
    connection: "asyncpg.Connection[asyncpg.Record]", database_url: str, name: str
) -> None:
    """Neither of its view nor of its key's index, in no generation; `user` is a word of SQL."""
    facts.register(Table(name, Contact))
    await migrate.migrate(connection, database_url)
    assert await generation_check.declared_by_users(connection, NOTHING_DECLARED) == ([], [])
    await connection.execute("INSERT INTO redrive.generations (generation, state) VALUES (2, 'ready')")
    await migrate.create_generation(connection, 2)
    await migrate.point_views(connection, 2)
    await connection.execute("UPDATE redrive.generation SET live = 2, previous = 1")
    assert await generation_check.declared_by_users(connection, NOTHING_DECLARED) == ([], [])


async def test_check_says_once_that_a_plug_in_is_not_named_any_more(
    connection: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    with put_back_afterwards():
        facts.register(Table("contacts", Contact))
        await migrate.migrate(connection, database_url)
    (warning,), faults = await generation_check.declared_by_users(connection, NOTHING_DECLARED)
    assert faults == []
    assert "redrive and the plug-ins of redrive.toml do not declare contacts in gen_1" in warning
