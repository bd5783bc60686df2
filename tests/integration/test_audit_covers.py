"""Invariant 10: everything that operators can change is on record, with who and why. A new way to change something has
to be added here, with what the audit then says of it.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import click
import pytest
from click.testing import CliRunner

from deploy import cli
from replay.audit import AuditSearch, list_audit, note
from replay.selection.times import parse_time
from schemas.errors import InvalidSelection
from tests.conftest import Stack
from tests.support import signing
from tests.support.commands import every_command
from tests.support.consoles import Call, console_app

CORRECTION = {"source": "stripe", "new": True, "reason": "why"}
ROUTES: dict[str, list[tuple[str, dict[str, Any], list[str]]]] = {
    "/api/sources/{source}/{verb}": [
        (f"/api/sources/stripe/{verb}", {"reason": "why"}, [f"source.{verb}"])
        for verb in ("pause", "resume", "disable", "enable")
    ],
    "/api/quarantine/release": [
        ("/api/quarantine/release", {"source": "stripe", "reason": "why"}, ["quarantine.release"] * 2)
    ],
    "/api/dead-letters/requeue": [
        ("/api/dead-letters/requeue", {"source": "stripe", "reason": "why"}, ["dead_letters.requeue"] * 2)
    ],
    "/api/rebuilds": [("/api/rebuilds", {"reason": "why"}, ["rebuild.build"])],
    "/api/corrections": [
        ("/api/corrections", {**CORRECTION, "change": change}, [action])
        for change, action in (
            ({"type": "credits.adjusted", "customer": "cus_1", "credits": 5}, "credits.adjust"),
            ({"type": "account.frozen", "customer": "cus_1"}, "account.freeze"),
            ({"type": "account.unfrozen", "customer": "cus_1"}, "account.unfreeze"),
            (
                {"type": "subscription.corrected", "subscription": "s", "status": "active", "customer": "cus_1"},
                "subscription.correct",
            ),
        )
    ],
    # Of a replay, which test_replays_api.py has; of a proof, which test_proofs.py has.
    "/api/replays": [],
    "/api/replays/{id}/{verb}": [],
    "/api/proofs": [],
}
"""Route that changes something -> requests, and what each leaves in the audit."""

NO_CHANGE = {"/login"}

COMMANDS: dict[str, list[tuple[list[str], list[str]]]] = {
    "migrate": [],
    "topics": [],
    "send": [],
    **{
        f"sources {verb}": [(["sources", verb, "stripe", "--reason", "why"], [f"source.{verb}"])]
        for verb in ("pause", "resume", "disable", "enable")
    },
    "quarantine release": [
        (["quarantine", "release", "--source", "stripe", "--reason", "why"], ["quarantine.release"] * 2)
    ],
    "dead-letters requeue": [
        (["dead-letters", "requeue", "--all", "--reason", "why"], ["dead_letters.requeue"] * 2),
    ],
    "correct credits": [(["correct", "credits", "cus_1", "--credits", "-5"], ["credits.adjust"])],
    "correct account": [(["correct", "account", "cus_1", "--freeze"], ["account.freeze"])],
    "correct subscription": [
        (["correct", "subscription", "sub_1", "--status", "active", "--customer", "cus_1"], ["subscription.correct"])
    ],
    "rebuild drop": [
        (["rebuild", "--as-of", "1h ago", "--name", "then", "--reason", "why"], ["rebuild.as_of"]),
        (["rebuild", "drop", "then", "--reason", "why"], ["rebuild.drop"]),
        (["rebuild", "--apply", "--reason", "why"], ["rebuild.build", "rebuild.apply"]),
        (["rebuild", "--rollback", "--reason", "why"], ["rebuild.rollback"]),
    ],
    "replay run": [(["replay", "run", "--source", "stripe", "--from", "1h ago", "--reason", "why"], ["replay.run"])],
    # Of a loss that is accepted, which test_losses.py has.
    "prove": [],
    # Of a replay, which test_replays_api.py has.
    **{f"replay {verb}": [] for verb in ("pause", "resume", "cancel")},
}
"""Command that changes something -> arguments, and what they leave in the audit. Those that prepare an installation, or
send samples to one in production, have tests of their own below.
"""

ONLY_LOOKS = {
    *(
        "check",
        "verify",
        "sources list",
        "quarantine list",
        "replay plan",
        "replay list",
        "replay show",
        "rebuild list",
    ),
    # What they reveal is on record, which tests of their own hold.
    *("events list", "events show", "why", "dead-letters list", "dead-letters show", "audit list"),
    "quarantine show",
}
SERVICES = {"up", "ingest", "processors", "console"}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from leaves(one, (*path, name))
    else:
        yield " ".join(path)


def test_every_command_that_changes_something_is_known() -> None:
    assert set(leaves(every_command())) == {*COMMANDS, *ONLY_LOOKS, *SERVICES}


def test_every_route_that_changes_something_is_known() -> None:
    changing = {
        route.resource.canonical
        for route in console_app().router.routes()
        if route.resource and route.method not in ("GET", "HEAD")
    }
    assert changing == {*ROUTES, *NO_CHANGE}


async def actions(connection: Any) -> list[tuple[str, str, str | None]]:
    rows = await connection.fetch("SELECT operator, action, reason FROM redrive.audit ORDER BY id")
    await connection.execute("TRUNCATE redrive.audit")
    return [tuple(row) for row in rows]


async def test_a_request_that_changes_something_is_on_record(console: str, connection: Any) -> None:
    headers = {"X-Admin-API-Key": "admin", "X-Operator": "ada"}
    async with aiohttp.ClientSession(console, headers=headers) as session:
        for requests in ROUTES.values():
            for path, body, expected in requests:
                async with session.post(path, json=body) as response:
                    assert response.status == 200, (path, await response.text())
                assert await actions(connection) == [("ada", action, "why") for action in expected], path


async def redrive(folder: Path, environment: dict[str, str], *arguments: str) -> None:
    """In this process, in a thread of its own: a command runs an event loop."""

    def invoke() -> Any:
        with contextlib.chdir(folder):
            return CliRunner().invoke(cli.redrive, arguments, env=environment)

    done = await asyncio.to_thread(invoke)
    assert done.exit_code == 0, (arguments, done.output, done.exception)


@pytest.fixture
def environment(stack: Stack, database_url: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
        "DATABASE_URL": database_url,
        "REDRIVE_OPERATOR": "ada",
        "STRIPE_WEBHOOK_SECRET": signing.STRIPE,
    }


async def test_a_command_that_changes_something_is_on_record(
    environment: dict[str, str], connection: Any, tmp_path: Path
) -> None:
    await redrive(tmp_path, environment, "topics", "--apply")
    await connection.execute("TRUNCATE redrive.audit")
    for name, runs in COMMANDS.items():
        for arguments, expected in runs:
            more = ["--source", "stripe", "--new", "--reason", "why"] if name.startswith("correct") else []
            await redrive(tmp_path, environment, *arguments, *more)
            assert await actions(connection) == [("ada", action, "why") for action in expected], name


async def test_what_prepares_an_installation_is_on_record_as_soon_as_there_is_a_record(
    stack: Stack, environment: dict[str, str], tmp_path: Path
) -> None:
    admin = await asyncpg.connect(stack.postgres.url("postgres"))
    name = f"bare_{os.getpid()}"
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        environment["DATABASE_URL"] = stack.postgres.url(name)
        await redrive(tmp_path, environment, "migrate", "--apply")
        (tmp_path / "redrive.toml").write_text(
            f'[sources.{name}]\nprovider = "stripe"\nsecrets = ["whsec_of_the_shop"]\n[price_tiers]\nprice_1 = "pro"\n'
        )
        for command in ("topics", "migrate") * 2:
            await redrive(tmp_path, environment, command, "--apply")
        connection = await asyncpg.connect(environment["DATABASE_URL"])
        try:
            assert await actions(connection) == [
                ("ada", "schema.migrate", None),
                ("ada", "topics.create", None),
                ("ada", "schema.migrate", None),
            ]
        finally:
            await connection.close()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_samples_in_production_are_on_record_before_the_first_is_sent(
    environment: dict[str, str], connection: Any, tmp_path: Path
) -> None:
    production = {**environment, "APP_ENV": "production", "ADMIN_API_KEY": "sixteen letters!"}
    with pytest.raises(AssertionError):
        await redrive(tmp_path, production, "send", "stripe", "--force", "--url", "http://127.0.0.1:9")
    assert await actions(connection) == [("ada", "samples.send", None)]


async def test_the_audit_is_searched_by_who_what_and_when(connection: Any, call: Call) -> None:
    for number, (operator, action) in enumerate(
        (("ada", "source.pause"), ("bob", "source.resume"), ("ada", "quarantine.release"), ("ada", "source_.x"))
    ):
        await note(connection, operator, action, None, number=number)
        await connection.execute(
            "UPDATE redrive.audit SET at = $2 WHERE details = $1",
            f'{{"number": {number}}}',
            await connection.fetchval("SELECT to_timestamp($1)", 1_760_000_000 + number),
        )

    async def found(**search: Any) -> list[int]:
        entries, _ = await list_audit(connection, AuditSearch(**search), 10)
        return [one["details"]["number"] for one in entries]

    start = 1_760_000_000_000
    assert await found() == [3, 2, 1, 0]
    assert await found(operator="ada") == [3, 2, 0]
    assert await found(action_glob="source.*") == [1, 0]
    assert await found(action_glob="source_*") == [3], "an underscore is none of LIKE's"
    assert await found(from_ms=start + 1000, to_ms=start + 3000) == [2, 1]
    assert await found(operator="ada", action_glob="source.*") == [0]
    assert await found(from_ms=2**60) == [], "beyond all calendars"
    for wrong in ({"from_ms": 5, "to_ms": 5}, {"operator": "a\0b"}):
        with pytest.raises(InvalidSelection):
            await found(**wrong)
    status, page = await call("GET", "/api/audit?operator=ada&action=source.*&to=2026-01-01T00:00:00Z&limit=1")
    assert (status, [one["details"]["number"] for one in page["audit"]], page["cursor"]) == (200, [0], None)
    assert parse_time("2026-01-01T00:00:00Z") > start
    for query in ("operators=ada", "from=never", "operator=a&operator=b"):
        status, problem = await call("GET", f"/api/audit?{query}")
        assert (status, problem["code"]) == (400, "invalid_selection"), query
