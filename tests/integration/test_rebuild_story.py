"""Stories of every provider, a projection bug half-way, the fix: the tables end as those of a run that never had the bug,
by the roots of their proofs and row by row.

`REBUILD_DELIVERIES=20000` is the long run.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors import projections
from processors.fold import fold_record
from processors.store import Span, Store
from schemas.topics import source_of
from tests.conftest import Stack, fresh_database
from tests.support.amounts import amount
from tests.support.folding import NoLetters
from tests.support.proving import proved
from tests.support.rebuilds import (
    apply,
    fact_rows,
    fold_as_control,
    following,
    live_and_previous,
    positions_of,
    rebuild,
    rebuilding,
    with_a_bug,
)
from tests.support.records import PARTITIONS, FakeRecord, on_topic, produce, story_record
from tests.support.replays import everything, rerun
from tests.support.story import Author, World, write
from tests.support.tables import story_differences
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

DELIVERIES = int(os.environ.get("REBUILD_DELIVERIES", amount(600, 2000)))
SEED = 20261121
NOW = 1_760_000_000


def tell(topic: str) -> tuple[World, list[FakeRecord]]:
    """Shuffled, a quarter of them repeated, all on one topic: every row is of that topic's source."""
    source = source_of(topic)
    author = Author(SEED, NOW - 200_000, source)
    while len(author.world.webhooks) < DELIVERIES * 3 // 4:
        write(author, 5)
    webhooks = author.world.webhooks
    webhooks = webhooks + author.random.choices(webhooks, k=max(DELIVERIES - len(webhooks), len(webhooks) // 3))
    author.random.shuffle(webhooks)
    told = [story_record(webhook, NOW) for webhook in webhooks]
    world = replace(
        author.world,
        tables={
            table: {(source, *key[1:]): row for key, row in rows.items()} for table, rows in author.world.tables.items()
        },
    )
    return world, [on_topic(one, topic, n % PARTITIONS) for n, one in enumerate(told)]


def raising() -> Callable[..., Any]:
    """The other kind of bug: records become dead letters."""

    def project(record: Any, payload: Any) -> Any:
        raise RuntimeError("a bug")

    return project


def live_at(connection: Any, offsets: int) -> Callable[[], Any]:
    async def check() -> bool:
        live, _ = await live_and_previous(connection)
        return sum((await positions_of(connection, live)).values()) == offsets

    return check


async def in_portions(stack: Stack, records: Sequence[FakeRecord]) -> None:
    for first in range(0, len(records), 50):
        await produce(stack.servers, records[first : first + 50])


async def skip_what_is_there(connection: Any, records: Sequence[FakeRecord]) -> None:
    """A window that is never folded: somebody moves the positions past it. Only the record below each is folded: where
    it is another one than the index has, a worker takes the log for a restored one.
    """
    for partition in range(PARTITIONS):
        there = [one for one in records if one.partition == partition]
        last = replace(there[-1], offset=len(there) - 1)
        topic_id = await connection.fetchval(
            "UPDATE redrive.positions SET next_offset = $1 WHERE generation = 2 AND partition = $2 RETURNING topic_id",
            last.offset,
            partition,
        )
        span = Span(last.topic, partition, last.offset, last.offset + 1, topic_id)
        await Store(2, NoLetters()).commit_batch(connection, span, [fold_record(last)])


async def roots(stack: Stack, url: str) -> dict[str, tuple[int, str]]:
    """(rows, root) of every table, of a proof that finds them equal to the log."""
    made = await proved(stack, url)
    assert (made.verdict, made.reasons) == ("equal", [])
    return {name: (table.rows, table.root) for name, table in made.tables.items()}


@pytest.mark.timeout(300 + DELIVERIES // 10)
async def test_after_a_bug_a_rebuild_leaves_the_tables_of_a_run_that_never_had_it(
    stack: Stack,
    template: str,
    topic: str,
    database_url: str,
    connection: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, records = tell(topic)
    count = len(records)
    half, live, skipped = count // 2, count * 7 // 10, count * 9 // 10

    await produce(stack.servers, records[: half // 2])
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, half // 2), "the sound part")
    with monkeypatch.context() as bugs:
        bugs.setitem(projections.PROJECTIONS, "stripe", with_a_bug(projections.PROJECTIONS["stripe"]))
        bugs.setitem(projections.PROJECTIONS, "whatsapp", raising())
        await produce(stack.servers, records[half // 2 : half])
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await until(folded(connection, half), "the spoiled part")
    dead = await connection.fetchval("SELECT count(*) FROM redrive.event_index WHERE status = 'dead'")
    assert dead > 0

    async with rebuilding(stack, database_url) as ports:
        # Next to live traffic: fold, apply, back, and there again.
        async with run_worker(stack, database_url, topic, topic, tmp_path), following(ports):
            sending = asyncio.create_task(in_portions(stack, records[half:live]))
            assert (await rebuild(ports)).number == 2
            for number in (2, 1, 2):
                await apply(ports, number)
            await sending
            await until(live_at(connection, live), "the live traffic")
        assert await live_and_previous(connection) == (2, 1)
        assert await connection.fetchval("SELECT count(*) FROM redrive.event_index WHERE status = 'dead'") == 0
    async with fresh_database(stack, template) as control:
        expected = await fold_as_control(stack, control, topic, live, tmp_path)
        assert await roots(stack, database_url) == await roots(stack, control)
        assert await fact_rows(connection, "gen_2") == expected
        assert await fact_rows(connection, "gen_1") != expected

        await produce(stack.servers, records[live:skipped])
        await skip_what_is_there(connection, records[:skipped])
        await produce(stack.servers, records[skipped:])
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await until(live_at(connection, count), "what came after the window")
        expected = await fold_as_control(stack, control, topic, count, tmp_path)
        assert (await proved(stack, database_url)).verdict == "different"
        entry = await rerun(stack, database_url, connection, everything(topic))
        assert (entry["state"], entry["dead"]) == ("done", 0)
        assert await roots(stack, database_url) == await roots(stack, control)
    assert await fact_rows(connection, "gen_2") == expected
    assert await story_differences(connection, world) == []
    assert await connection.fetchval("SELECT count(*) FROM redrive.lost_ranges") == 0
