"""After a flip the index says what the new generation applied, also where whoever flipped was killed; and a rollback that
is asked for twice is one.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors import projections
from processors.projections.base import Event
from replay import metrics
from replay.log.reader import LogReader
from replay.operations.dead_letters import DeadLetterFilter
from replay.operations.requeue import Requeue
from replay.rebuild import after_flip
from replay.rebuild.flip import rollback_target
from replay.rebuild.follower import Follower
from replay.tables import generations
from replay.tables.folding import LiveFolding
from replay.tables.generations import RebuildPorts
from schemas.errors import InvalidTransition
from tests.conftest import Stack
from tests.support.rebuilds import TESTER, apply, live_and_previous, rebuild, rebuilding, rollback
from tests.support.records import batch, produce
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

RECORDS = 60
IGNORED = 20


class Killed(Exception):
    """Whoever flips, right after the flip."""


def killed(_: int) -> Any:
    raise Killed


def ignoring(original: Callable[..., Any], names: range) -> Callable[..., Iterator[Event]]:
    """A projection that has no use yet for some payments, and fails on the last."""

    def project(record: Any, payload: Any) -> Iterator[Event]:
        number = int(payload["data"]["object"]["id"].removeprefix("pi_"))
        if number == RECORDS - 1:
            raise RuntimeError("a bug")
        for event in original(record, payload):
            yield replace(event, facts=()) if number in names else event

    return project


@pytest.fixture
async def newer(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RebuildPorts]:
    """Older code has folded sixty payments: twenty it ignored, one is dead. The ports are of newer code."""
    await produce(stack.servers, batch(topic, range(RECORDS)))
    with monkeypatch.context() as older:
        # Every second one, so that what was applied lies in between.
        names = range(0, 2 * IGNORED, 2)
        older.setitem(projections.PROJECTIONS, "stripe", ignoring(projections.PROJECTIONS["stripe"], names))
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await until(folded(connection, RECORDS), "the fold by older code")
    assert await statuses(connection) == {"applied": RECORDS - IGNORED - 1, "ignored": IGNORED, "dead": 1}
    monkeypatch.setattr(projections.stripe, "VERSION", projections.stripe.VERSION + 1)
    async with rebuilding(stack, database_url) as ports:
        yield ports


async def statuses(connection: Any) -> dict[str, int]:
    rows = await connection.fetch("SELECT status, count(*) FROM webhook_events GROUP BY status")
    return {row["status"]: row["count"] for row in rows}


async def settled(connection: Any) -> list[bool]:
    return [one["settled"] for one in await generations.describe_all(connection)]


async def test_what_older_code_ignored_is_applied_in_the_index_once_its_generation_is_live(
    newer: RebuildPorts, connection: Any
) -> None:
    await rebuild(newer)
    assert (await statuses(connection))["ignored"] == IGNORED
    await apply(newer, 2)
    assert await statuses(connection) == {"applied": RECORDS}
    assert await connection.fetchval("SELECT count(*) FROM gen_2.payments") == RECORDS
    assert await connection.fetchval("SELECT count(*) FROM gen_1.payments") == RECORDS - IGNORED - 1
    assert await settled(connection) == [True, True]


async def test_a_flip_that_is_cut_short_is_listed_and_ended_by_whoever_follows(
    newer: RebuildPorts, connection: Any
) -> None:
    await rebuild(newer)
    with pytest.raises(Killed):
        await apply(replace(newer, live_folding=killed), 2)
    assert await live_and_previous(connection) == (2, 1)
    assert (await statuses(connection))["ignored"] == IGNORED
    assert await settled(connection) == [True, False]
    # A console whose code is older than what folded the generation leaves it alone.
    version, writes = newer.code["stripe"]
    await Follower(replace(newer, code={**newer.code, "stripe": (version - 1, writes)})).follow()
    assert await settled(connection) == [True, False]
    await Follower(newer).follow()
    assert await statuses(connection) == {"applied": RECORDS}
    assert await settled(connection) == [True, True]


async def test_what_a_flip_left_is_done_at_the_next_one_and_a_state_of_before_stays_one(
    newer: RebuildPorts, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rebuild(newer)
    with pytest.raises(Killed):
        await apply(replace(newer, live_folding=killed), 2)
    await rollback(newer)
    # The dead letter alone: what older code ignored is not in its generation.
    assert await statuses(connection) == {"applied": RECORDS - IGNORED, "ignored": IGNORED}
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS - IGNORED
    # More than are held at once.
    monkeypatch.setattr(after_flip, "PORTION_RECORDS", 7)
    await apply(newer, 2)
    assert await statuses(connection) == {"applied": RECORDS}


async def test_what_was_applied_and_what_is_ignored_again_is_not_written(
    newer: RebuildPorts, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the ignored, newer code has a use for five."""
    names = range(0, 2 * (IGNORED - 5), 2)
    monkeypatch.setitem(projections.PROJECTIONS, "stripe", ignoring(projections.PROJECTIONS["stripe"], names))
    written: list[tuple[int, int]] = []

    class Noting(LiveFolding):
        async def commit(self, connection: Any, records: Sequence[Any], first: Any, last: Any) -> Any:
            written.extend((one.raw.partition, one.raw.offset) for one in records)
            return await super().commit(connection, records, first, last)

    await rebuild(newer)
    await apply(replace(newer, live_folding=Noting), 2)
    assert await statuses(connection) == {"applied": RECORDS - IGNORED - 1 + 5, "ignored": IGNORED - 5, "dead": 1}
    assert len(written) == 5 + 1
    await rollback(newer)
    await apply(replace(newer, live_folding=Noting), 2)
    assert len(written) == 5 + 2, "afterwards, the dead letter alone"


async def test_a_rollback_that_is_asked_for_again_brings_nothing_back(newer: RebuildPorts, connection: Any) -> None:
    with pytest.raises(InvalidTransition, match="no previous generation"):
        await rollback_target(connection)
    await rebuild(newer)
    await apply(newer, 2)
    flips = metrics.FLIPS._value.get()
    for _ in range(2):
        await rollback(newer)
        assert await live_and_previous(connection) == (1, 2)
    assert metrics.FLIPS._value.get() == flips + 1
    await apply(newer, 2)
    await rollback(newer)
    assert await live_and_previous(connection) == (1, 2)


async def test_what_was_requeued_while_a_generation_was_built_is_in_it_once_it_is_live(
    stack: Stack, newer: RebuildPorts, connection: Any
) -> None:
    """Its tables were copied before, and the index calls the event applied."""
    copied = await rebuild(newer, frozenset({"invoices"}))
    async with LogReader(stack.cluster) as reader:
        folding = await LiveFolding.open(connection)
        requeued = await Requeue(connection, reader, folding, TESTER).run(DeadLetterFilter(), lambda _: None)
    assert (requeued.revived, requeued.dead) == (1, 0)
    await apply(newer, copied.number)
    assert await statuses(connection) == {"applied": RECORDS}
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS


async def test_no_table_is_copied_while_events_are_still_re_driven_into_it(
    newer: RebuildPorts, connection: Any
) -> None:
    await connection.execute("UPDATE redrive.generations SET to_redrive = 'all' WHERE generation = 1")
    with pytest.raises(InvalidTransition, match="still re-driven"):
        await rebuild(newer, frozenset({"invoices"}))
    async with newer.open_log() as reader:
        await after_flip.settle(newer, reader)
    assert (await rebuild(newer, frozenset({"invoices"}))).number == 2
