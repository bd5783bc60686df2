"""Killed at any moment, a rebuild is gone on with or leaves nothing: every step, in an order that the seed decides.

`REBUILD_SEED` runs a history again.
"""

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg

from deploy import migrate
from replay.rebuild import lifecycle
from replay.rebuild.after_flip import pending, settle
from replay.rebuild.flip import flip
from replay.rebuild.fold import build
from replay.tables import generations
from replay.tables.folding import LiveFolding, SchemaFolding
from replay.tables.read_models import Declared
from tests.conftest import Stack
from tests.support.amounts import new_seed
from tests.support.rebuilds import TESTER, fact_rows, live_and_previous, positions_of, rebuilding
from tests.support.records import batch, produce, record
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

POINTS: Final = (
    "before the tables are made",
    "after the tables are made",
    "before a batch",
    "after a batch's rows",
    "after a batch",
    "before the views point",
    "after the views point",
    "after the flip",
    "while it is dropped",
)
RECORDS: Final = 600


class Killed(BaseException):
    """Nothing of the process runs any more, and its connections are gone."""


class Fate:
    """Kills at one point, at the nth time that it is reached."""

    def __init__(self, point: str, countdown: int) -> None:
        self._point = point
        self._countdown = countdown if "batch" in point else 1

    def reached(self, point: str) -> None:
        if point == self._point:
            self._countdown -= 1
            if self._countdown == 0:
                raise Killed(point)


class MortalFolding(SchemaFolding):
    fate: Fate

    async def commit(
        self,
        connection: Any,
        records: Sequence[Any],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Any], Awaitable[None]],
    ) -> Any:
        async def then(outcome: Any) -> None:
            await last(outcome)
            self.fate.reached("after a batch's rows")

        self.fate.reached("before a batch")
        written = await super().commit(connection, records, first, then)
        self.fate.reached("after a batch")
        return written


async def rebuild_and_apply(stack: Stack, url: str, before: int, fate: Fate) -> None:
    """As `redrive rebuild --apply`, then `redrive rebuild drop` of the generation that was live before; or what is left
    of it to do.
    """

    def foldings(schema: str, only: frozenset[str] | None) -> MortalFolding:
        folding = MortalFolding.into(schema, only)
        assert isinstance(folding, MortalFolding)
        folding.fate = fate
        return folding

    async def create(connection: Any, generation: int, declared: Declared) -> None:
        fate.reached("before the tables are made")
        await migrate.create_generation(connection, generation, declared)
        fate.reached("after the tables are made")

    async def point(connection: Any, generation: int, declared: Declared) -> None:
        fate.reached("before the views point")
        await migrate.point_views(connection, generation, declared)
        fate.reached("after the views point")

    def live_folding(generation: int) -> LiveFolding:
        fate.reached("after the flip")
        return LiveFolding(generation)

    changes = {"foldings": foldings, "create": create, "point": point, "live_folding": live_folding}
    async with rebuilding(stack, url, **changes) as ports:
        async with ports.pool.acquire() as connection:
            await lifecycle.sweep(connection)
            live, _ = await live_and_previous(connection)
            if live == before:
                generation = await lifecycle.begin(connection, ports, None, TESTER)
        if live == before:
            async with ports.open_log() as reader:
                await build(ports, generation, reader, lambda *_: None)
                await flip(ports, reader, generation.number, "rebuild.apply", TESTER)
        async with ports.open_log() as reader:
            await settle(ports, reader)
        async with ports.pool.acquire() as connection:
            if any(one.number == before for one in await generations.kept(connection)):
                async with connection.transaction():
                    await connection.execute(
                        "UPDATE redrive.generations SET state = 'dropped' WHERE generation = $1", before
                    )
                fate.reached("while it is dropped")
            await lifecycle.sweep(connection)


async def test_a_rebuild_killed_at_every_step_ends_as_one_that_was_not(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    seed = int(os.environ.get("REBUILD_SEED") or new_seed())
    print(f"REBUILD_SEED={seed}")
    chance = random.Random(seed)
    records = batch(topic, range(RECORDS))
    records[100] = record(topic, "stripe", b"junk", partition=1)
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, RECORDS), "the fold")
    expected = await fact_rows(connection, "gen_1")

    for point in chance.sample(POINTS, len(POINTS)):
        before, _ = await live_and_previous(connection)
        died: list[str] = []
        try:
            await rebuild_and_apply(stack, database_url, before, Fate(point, chance.randint(1, 3)))
        except* Killed:
            died.append(point)
        assert died or point != "before a batch", "the history was not cut short"
        await assert_consistent(connection, expected)
        await rebuild_and_apply(stack, database_url, before, Fate("never", 1))
        await assert_consistent(connection, expected)

    assert all(one.is_live for one in await generations.kept(connection)), "nothing else is left"
    live, previous = await live_and_previous(connection)
    assert (live >= len(POINTS), previous) == (True, None)
    assert await pending(connection) is None
    schemas = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ '^(gen_|scratch_)'")
    assert [row["nspname"] for row in schemas] == [f"gen_{live}"]
    assert sum((await positions_of(connection, live)).values()) == RECORDS
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index WHERE status = 'dead'") == 1


async def assert_consistent(connection: "asyncpg.Connection[asyncpg.Record]", expected: dict[str, list[str]]) -> None:
    """What users read is whole at every moment, and a generation holds no less than its positions say."""
    live, _ = await live_and_previous(connection)
    assert await fact_rows(connection, f"gen_{live}") == expected
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS - 1
    for one in await generations.kept(connection):
        positions = await positions_of(connection, one.number)
        assert all(position <= RECORDS for position in positions.values())
        rows = await connection.fetchval(f"SELECT count(*) FROM {one.schema}.payments")
        assert rows >= sum(positions.values()) - 1
