"""Least privilege: each service works with the rights of its role, and the role refuses what is not its work."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from deploy import migrate, roles
from schemas.errors import Misconfigured
from tests.conftest import Stack
from tests.support import signing
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, write
from tests.support.tables import story_differences, until_folded

KEY = "the operators' key"
NEW_SECRET = "whsec_new_secret"


async def quarantined(url: str) -> None:
    """One delivery that only the new secret will verify."""
    body, now = b'{"id":"evt_later","type":"customer.created","created":1}', int(time.time())
    headers = signing.stripe(body, now, NEW_SECRET)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/webhooks/stripe", data=body, headers=headers) as r,
    ):
        assert r.status == 401


@dataclass(frozen=True)
class Logins:
    """A database, and the URL of a login per role; `owner` migrates, and is no superuser."""

    admin: str
    urls: dict[str, str]

    @asynccontextmanager
    async def connected(self, name: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        connection = await asyncpg.connect(self.urls[name])
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def logins(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Logins]:
    """An owner who may not create roles, a database of theirs, and one login in each role."""
    suffix = secrets.token_hex(3)
    database = f"roles_{suffix}"
    admin = await asyncpg.connect(stack.postgres.url("postgres"))
    names = {"owner": f"owner_{suffix}", **{role.name: f"{role.name}_{suffix}" for role in roles.ROLES}}
    urls = {kind: stack.postgres.url(database).replace("postgres@", f"{name}@") for kind, name in names.items()}
    try:
        await admin.execute(f"CREATE ROLE {names['owner']} LOGIN")
        await admin.execute(f"CREATE DATABASE {database} OWNER {names['owner']}")
        await roles.create(admin)
        owner = Installation(tmp_path_factory.mktemp("owner"), DATABASE_URL=urls["owner"], **SECRETS)
        await owner.redrive("migrate", "--apply", "--roles")
        for role in roles.ROLES:
            await admin.execute(f"CREATE ROLE {names[role.name]} LOGIN IN ROLE {role.name}")
        yield Logins(stack.postgres.url(database), urls)
        await admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
        for name in names.values():
            await admin.execute(f"DROP ROLE {name}")
    finally:
        await admin.close()


async def test_the_services_and_the_operators_work_with_their_roles_and_ingest_without_any_database(
    servers: dict[str, str], logins: Logins, tmp_path: Path
) -> None:
    kafka = servers["KAFKA_BOOTSTRAP_SERVERS"]
    installation = Installation(
        tmp_path, KAFKA_BOOTSTRAP_SERVERS=kafka, ADMIN_API_KEY=KEY, REDRIVE_OPERATOR="ines", **SECRETS
    )
    assert "DATABASE_URL" not in installation.environment
    await installation.redrive("topics", "--apply")
    world = write(Author(31, start=int(time.time()) - 200_000), 3)
    processors = {"DATABASE_URL": logins.urls["redrive_processors"]}
    console = {"DATABASE_URL": logins.urls["redrive_console"]}
    async with (
        installation.serving("ingest"),
        installation.serving("processors", **processors),
        installation.serving("console", **console),
        logins.connected("redrive_dashboard") as dashboard,
        logins.connected("redrive_console") as operators,
    ):
        await Provider(installation.ingest_url).deliver_all(world.webhooks)
        await until_folded(operators, world.events)
        admin = await asyncpg.connect(logins.admin)
        assert await story_differences(admin, world) == []
        await admin.close()
        for view in roles.public_views():
            await dashboard.fetch(f"SELECT * FROM public.{view} LIMIT 1")
        assert await dashboard.fetchval("SELECT count(*) FROM messages") > 0

        installation.environment |= console
        await installation.redrive("check")
        replay = await installation.redrive_json("replay", "run", "--from", "2020-01-01", "--reason", "roles")
        assert replay["rows_changed"] == 0
        plan = await installation.redrive_json("replay", "plan", "--from", "2020-01-01", "--diff")
        assert plan["diff"]["is_equal"]
        await installation.redrive("events", "list")
        await installation.redrive("prove")
        await quarantined(installation.ingest_url)
        installation.environment["STRIPE_WEBHOOK_SECRET"] = NEW_SECRET
        await installation.redrive("quarantine", "release", "--source", "stripe", "--reason", "roles")
        assert await operators.fetchval("SELECT count(*) FROM redrive.releases WHERE location IS NOT NULL") == 1
        await installation.redrive(
            *("correct", "credits", "cus_roles", "--credits", "5", "--source", "stripe"),
            *("--new", "--wait", "--reason", "roles"),
        )
        assert await operators.fetchval("SELECT balance FROM credits WHERE customer_id = 'cus_roles'") == 5
        await installation.redrive("dead-letters", "requeue", "--all", "--reason", "roles")
        async with aiohttp.ClientSession(headers={"X-Admin-API-Key": KEY}) as session:
            paths = ("sources", "events", "audit", "quarantine", "dead-letters", "proofs")
            for path in ("/", *(f"/api/{name}" for name in paths)):
                async with session.get(installation.url("console") + path) as answer:
                    assert answer.status == 200, path
            url = f"{installation.url('console')}/api/sources/stripe/pause"
            async with session.post(url, json={"reason": "roles"}) as answer:
                assert answer.status == 200
            async with session.post(url.replace("pause", "resume"), json={"reason": "roles"}) as answer:
                assert answer.status == 200
        assert await operators.fetchval("SELECT count(*) FROM redrive.audit") >= 3


EVERYBODY = tuple(role.name for role in roles.ROLES)
FORBIDDEN = [
    *((name, "DROP SCHEMA gen_1 CASCADE") for name in EVERYBODY),
    *((name, "DROP TABLE redrive.audit") for name in EVERYBODY),
    *((name, "CREATE TABLE public.mine (a int)") for name in EVERYBODY),
    *((name, "CREATE SCHEMA gen_2") for name in EVERYBODY),
    *((name, "TRUNCATE gen_1.messages") for name in EVERYBODY),
    *((name, "DELETE FROM gen_1.messages") for name in EVERYBODY),
    *((name, "ALTER TABLE gen_1.messages DISABLE TRIGGER ALL") for name in EVERYBODY),
    *((name, "UPDATE redrive.audit SET operator = 'nobody'") for name in EVERYBODY),
    *((name, "DELETE FROM redrive.audit") for name in EVERYBODY),
    *((name, "UPDATE redrive.generation SET live = 2") for name in EVERYBODY),
    *((name, "DELETE FROM redrive.migration_checksum") for name in EVERYBODY),
    *((name, "DELETE FROM public.messages") for name in EVERYBODY),
    ("redrive_processors", "INSERT INTO redrive.audit (operator, action) VALUES ('me', 'nothing')"),
    ("redrive_processors", "SELECT * FROM redrive.audit"),
    ("redrive_processors", "SELECT * FROM redrive.replays"),
    ("redrive_processors", "DELETE FROM redrive.positions"),
    ("redrive_console", "UPDATE redrive.positions SET next_offset = 0"),
    ("redrive_console", "SELECT redrive.advance(1, 'webhooks.stripe', 0, 0, 9)"),
    ("redrive_console", "DELETE FROM redrive.releases"),
    ("redrive_dashboard", "SELECT * FROM gen_1.messages"),
    ("redrive_dashboard", "SELECT * FROM redrive.event_index"),
    ("redrive_dashboard", "SELECT redrive.advance(1, 'webhooks.stripe', 0, 0, 9)"),
    ("redrive_dashboard", "INSERT INTO public.messages (source, message_id) VALUES ('a', 'b')"),
    ("redrive_dashboard", "UPDATE public.invoices SET status = 'completed'"),
]


@pytest.mark.parametrize(("role", "statement"), FORBIDDEN)
async def test_a_role_refuses_what_is_not_its_work(logins: Logins, role: str, statement: str) -> None:
    async with logins.connected(role) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_a_later_generation_and_a_later_view_need_no_person(logins: Logins) -> None:
    async with logins.connected("owner") as owner, logins.connected("redrive_processors") as processors:
        await migrate.create_generation(owner, 2)
        try:
            await processors.execute("INSERT INTO gen_2.messages (source, message_id) VALUES ('stripe', 'm')")
            async with logins.connected("redrive_dashboard") as dashboard:
                await migrate.point_views(owner, 2)
                assert await dashboard.fetchval("SELECT count(*) FROM public.messages WHERE message_id = 'm'") == 1
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await dashboard.fetch("SELECT * FROM gen_2.messages")
        finally:
            await migrate.point_views(owner, 1)
            await owner.execute("DROP SCHEMA gen_2 CASCADE")


async def test_the_console_follows_a_generation_and_moves_no_live_position_by_the_way(logins: Logins) -> None:
    """What it may not do to the table, it may by the functions that refuse the live generation."""
    start, follow = (
        "SELECT * FROM redrive.follow_from($1, '{t}', '{0}', '{0}')",
        "SELECT redrive.follow($1, 't', 0, 0, $2)",
    )
    async with logins.connected("owner") as owner, logins.connected("redrive_console") as console:
        await owner.execute("INSERT INTO redrive.generations (generation, state) VALUES (9, 'building')")
        await owner.execute("INSERT INTO redrive.positions VALUES (1, 't', 0, 5)")
        try:
            assert len(await console.fetch(start, 9)) == 1
            assert await console.fetchval(follow, 9, 5) is True
            assert await console.fetchval(follow, 9, 6) is False, "past the live position"
            assert await console.fetch(start, 1) == []
            assert await console.fetchval(follow, 1, 5) is False
            assert (
                await owner.fetchval("SELECT next_offset FROM redrive.positions WHERE generation = 1 AND topic = 't'")
                == 5
            )
        finally:
            await owner.execute("DELETE FROM redrive.generations WHERE generation = 9")
            await owner.execute("DELETE FROM redrive.positions WHERE topic = 't'")


async def test_only_the_owner_makes_a_generation(logins: Logins, tmp_path: Path, stack: Stack) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": stack.servers, "DATABASE_URL": logins.urls["redrive_console"], **SECRETS}
    installation = Installation(tmp_path, **environment)
    _, said = await installation.redrive("rebuild", "--reason", "trying it", expect=78)
    assert "only the database owner" in " ".join(said.split())
    async with logins.connected("owner") as owner:
        assert await owner.fetchval("SELECT count(*) FROM redrive.generations") == 1


async def test_a_right_too_many_goes_with_the_next_migrate(logins: Logins) -> None:
    async with logins.connected("owner") as owner, logins.connected("redrive_processors") as processors:
        await owner.execute("GRANT DELETE ON redrive.audit, gen_1.messages TO redrive_processors")
        await processors.execute("DELETE FROM gen_1.messages WHERE false")
        await migrate.migrate(owner, logins.urls["owner"])
        for table in ("redrive.audit", "gen_1.messages"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await processors.execute(f"DELETE FROM {table} WHERE false")


async def test_every_table_has_a_role_that_works_with_it(logins: Logins) -> None:
    """A table of a later version that nobody may touch would be found by an operator, at night."""
    async with logins.connected("owner") as owner:
        found = {
            row["tablename"]
            for row in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'redrive'")
        }
        views = {
            row["viewname"] for row in await owner.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
        }
    assert found == {table for role in roles.ROLES for table in role.tables}
    assert views == set(roles.public_views())


async def test_who_may_not_create_roles_is_told_what_to_run(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "ROLES", (roles.Role("redrive_unheard_of"),))
    async with logins.connected("owner") as owner:
        assert await roles.missing(owner) == ["redrive_unheard_of"]
        with pytest.raises(Misconfigured, match="CREATE ROLE redrive_unheard_of NOLOGIN"):
            await roles.create(owner)
