"""`kill -9` of the commands that rebuild, at random moments beside live traffic: run again, each ends as if never killed.

`REBUILD_KILLS` is how many are killed; `REBUILD_SEED` runs a history again.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from processors import projections
from replay.rebuild import snapshot
from replay.rebuild.flip import rollback_target
from replay.tables import generations
from tests.conftest import Stack, fresh_database
from tests.support.consoles import Consoles
from tests.support.rebuilds import (
    fact_rows,
    fold_as_control,
    following,
    live_and_previous,
    positions_of,
    rebuilding,
    with_a_bug,
)
from tests.support.records import batch, produce
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

KILLS = int(os.environ.get("REBUILD_KILLS", "3"))
RECORDS = 3000
TRIES = 5
_POINTED_AT = """
    SELECT DISTINCT fact.relnamespace::regnamespace::text
    FROM pg_depend AS d
    JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class AS reader ON reader.oid = r.ev_class AND reader.relnamespace = 'public'::regnamespace
    JOIN pg_class AS fact ON d.refclassid = 'pg_class'::regclass AND fact.oid = d.refobjid
    WHERE fact.relnamespace::regnamespace::text ~ '^gen_'
"""

_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^(gen|scratch)_'"
_DROPPED = "SELECT generation FROM redrive.generations WHERE state = 'dropped'"


def folds_all(arguments: tuple[str, ...]) -> bool:
    return arguments == ("--apply",) or arguments[0] == "--as-of"


@dataclass
class History:
    """One installation, what its operator does to it, and the traffic meanwhile."""

    stack: Stack
    topic: str
    consoles: Consoles
    connection: Any
    chance: random.Random
    records: int
    took_seconds: dict[bool, float] = field(default_factory=dict)
    """The last command that ended, by whether it folds the whole log."""
    told: list[str] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)

    async def command(self, *arguments: str, kill_after: float | None = None) -> int:
        """Its exit code, -9 where it was killed. Live records arrive, and are folded, for as long as it runs."""
        begun = time.monotonic()
        process = await self.consoles.command("rebuild", *arguments, "--json")
        ended = asyncio.create_task(process.communicate())
        killing = asyncio.get_running_loop().call_later(kill_after, process.kill) if kill_after is not None else None
        try:
            while not ended.done():
                await produce(self.stack.servers, batch(self.topic, range(self.records, self.records + 3)))
                self.records += 3
                await until(self.live_at(self.records), "the live traffic")
        finally:
            if killing is not None:
                killing.cancel()
        _, error = await ended
        assert process.returncode in (0, 1, -9), error.decode()
        self.told.append(f"{' '.join(arguments)} -> {process.returncode} {error.decode()[-200:].strip()}")
        if process.returncode == 0:
            self.took_seconds[folds_all(arguments)] = time.monotonic() - begun
        return int(process.returncode)

    def live_at(self, offsets: int) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            live, _ = await live_and_previous(self.connection)
            return sum((await positions_of(self.connection, live)).values()) == offsets

        return check

    async def kill(self, act: "Act") -> bool:
        """Killed at some moment between coming up and the end. False: it had ended before."""
        moment = self.chance.uniform(self.took_seconds[False] / 2, self.took_seconds[folds_all(act.arguments)])
        code = await self.command(*act.arguments, kill_after=moment)
        assert code != 1, self.told
        self.killed[act.arguments[0]] += code == -9
        print(f"{' '.join(act.arguments)} -> {code} within {moment:.2f} s; killed: {self.killed.total()}")
        return code == -9

    async def again(self, act: "Act") -> None:
        """As an operator would: until it says that it is done, or that there is nothing left to do."""
        for _ in range(TRIES):
            if await self.command(*act.arguments) == 0 or await act.is_done():
                return
        raise AssertionError(f"it never ends: {self.told}")

    async def next_act(self) -> "Act":
        """One of what can be done now."""
        kept = [one.number for one in await generations.kept(self.connection)]
        live, previous = await live_and_previous(self.connection)

        async def is_live(number: int) -> bool:
            return (await live_and_previous(self.connection))[0] == number

        async def is_newer() -> bool:
            return (await live_and_previous(self.connection))[0] > max(kept)

        async def is_gone(number: int) -> bool:
            return number not in [one.number for one in await generations.kept(self.connection)]

        async def is_made() -> bool:
            return [one["state"] for one in await snapshot.describe_all(self.connection)] == ["ready"]

        acts = [Act(("--apply",), is_newer)] * 2
        acts.append(Act(("--as-of", "1 second ago", "--name", "then"), is_made))
        for number in kept:
            if number != live:
                acts.append(Act(("drop", str(number)), partial(is_gone, number)))
                acts.append(Act(("--apply", "--generation", str(number)), partial(is_live, number)))
        if previous is not None:
            acts += [Act(("--rollback",), partial(is_live, await rollback_target(self.connection)))] * 2
        return self.chance.choice(acts)


@dataclass(frozen=True)
class Act:
    """What an operator types after `redrive rebuild`, and whether it has come about."""

    arguments: tuple[str, ...]
    is_done: Callable[[], Awaitable[bool]]


async def assert_listed(connection: Any) -> None:
    """One generation is live, the views read it, and no state or generation is there, or half there, that no list tells
    of; but for one that is being dropped, which goes with the next command.
    """
    # Postgres may still be committing what a killed process sent last.
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        live, _ = await live_and_previous(connection)
        assert [row[0] for row in await connection.fetch(_POINTED_AT)] == [f"gen_{live}"]
        kept = {one.schema for one in await generations.kept(connection)}
        scratches = [f"scratch_{one['name']}" for one in await snapshot.describe_all(connection)]
        listed = {name + end for name in scratches for end in ("", "_facts")}
        schemas = {row[0] for row in await connection.fetch(_SCHEMAS)}
        dropped = {f"gen_{row[0]}" for row in await connection.fetch(_DROPPED)}
    assert f"gen_{live}" in kept
    assert kept | listed <= schemas <= kept | listed | dropped


async def assert_whole(connection: Any) -> None:
    """The same, with nothing of what was dropped, and nothing left to do."""
    await assert_listed(connection)
    dropped = {f"gen_{row[0]}" for row in await connection.fetch(_DROPPED)}
    assert not dropped & {row[0] for row in await connection.fetch(_SCHEMAS)}
    assert all(one["settled"] for one in await generations.describe_all(connection))


async def round_of(history: History) -> None:
    """One command, killed if it does not end before, and run again."""
    act = await history.next_act()
    if await history.kill(act):
        await assert_listed(history.connection)
        await history.again(act)
    assert await act.is_done(), history.told
    await assert_whole(history.connection)
    if act.arguments[0] == "--as-of":
        assert await history.command("drop", "then") == 0


@pytest.mark.thorough
@pytest.mark.timeout(300 + 30 * KILLS)
async def test_a_command_that_is_killed_and_run_again_ends_as_one_that_was_not(
    stack: Stack,
    template: str,
    topic: str,
    database_url: str,
    connection: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed = int(os.environ.get("REBUILD_SEED") or random.randrange(2**32))
    print(f"REBUILD_SEED={seed}")
    await produce(stack.servers, batch(topic, range(RECORDS)))
    with monkeypatch.context() as bugs:
        bugs.setitem(projections.PROJECTIONS, "stripe", with_a_bug(projections.PROJECTIONS["stripe"]))
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await until(folded(connection, RECORDS), "the spoiled fold")
    consoles = Consoles(stack, database_url, tmp_path, topic.removeprefix("webhooks."))
    history = History(stack, topic, consoles, connection, random.Random(seed), RECORDS)
    async with run_worker(stack, database_url, topic, topic, tmp_path), rebuilding(stack, database_url) as ports:
        # How long each kind of command takes.
        assert await history.command("list") == 0
        assert await history.command("--apply") == 0
        while history.killed.total() < KILLS:
            async with AsyncExitStack() as meanwhile:
                if history.chance.random() < 0.5:
                    await meanwhile.enter_async_context(following(ports))
                await round_of(history)
        assert await history.command("--apply") == 0
    live, _ = await live_and_previous(connection)
    async with fresh_database(stack, template) as control:
        expected = await fold_as_control(stack, control, topic, history.records, tmp_path)
    assert await fact_rows(connection, f"gen_{live}") == expected
    await assert_whole(connection)
    print(f"{history.killed} of {len(history.told)} commands were killed, {history.records} records")
