"""Invariant 7 where the topic is another one: made anew, with partitions that were not there, or folded by others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from deploy.topic_ids import TopicIds
from processors.partition_state import Extent
from processors.store import Span, Store, TopicReplaced
from processors.worker import Worker
from tests.conftest import Stack, fresh_database
from tests.support.folding import NoLetters
from tests.support.other_logs import NEW, OLD, lost_ranges
from tests.support.proving import proved
from tests.support.records import PARTITIONS, batch, produce, record
from tests.support.topics import add_partitions, make_anew
from tests.support.waiting import until
from tests.support.workers import assert_folded_once, folded, run_worker


async def id_of(stack: Stack, topic: str) -> UUID | None:
    ids = TopicIds(stack.cluster)
    try:
        return (await ids([topic]))[topic]
    finally:
        await ids.stop()


async def stored_ids(connection: Any) -> set[UUID | None]:
    return {row[0] for row in await connection.fetch("SELECT topic_id FROM redrive.positions")}


def lag(topic: str, partition: int) -> float | None:
    labels = {"topic": topic, "partition": str(partition)}
    return REGISTRY.get_sample_value("redrive_processors_lag_records", labels)


async def assert_all_of_the_new_log_is_folded(connection: Any) -> None:
    """60 records of the old one, and 90 of the new one."""
    assert await connection.fetchval("SELECT count(*) FROM payments") == 150
    assert await lost_ranges(connection) == [(1, partition, 0, 20) for partition in range(PARTITIONS)]


async def test_a_topic_made_anew_while_nobody_folds_is_folded_from_its_start(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """It has grown past the old positions: by offsets alone, nothing is wrong."""
    await produce(stack.servers, batch(topic, range(60)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 60), "the old log")
    await make_anew(stack.servers, topic)
    await produce(stack.servers, batch(topic, range(100, 190)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 90), "the new log")
    await assert_all_of_the_new_log_is_folded(connection)
    assert await stored_ids(connection) == {await id_of(stack, topic)}


async def test_a_topic_made_anew_under_a_worker_is_folded_from_its_start(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await produce(stack.servers, batch(topic, range(60)))
        await until(folded(connection, 60), "the old log")
        await make_anew(stack.servers, topic)
        await produce(stack.servers, batch(topic, range(100, 190)))

        async def is_folded() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM payments") == 150)

        await until(is_folded, "the new log")
        await until(folded(connection, 90), "its positions")
        replaced = REGISTRY.get_sample_value("redrive_processors_topics_replaced_total", {"topic": topic})
        assert replaced == PARTITIONS
    await assert_all_of_the_new_log_is_folded(connection)


async def test_what_was_on_partitions_that_the_new_topic_does_not_have_is_told_as_lost(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """Nobody is going to read them, and so nobody would find that they are gone."""
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await produce(stack.servers, batch(topic, range(60)))
        await until(folded(connection, 60), "the old log")
        await make_anew(stack.servers, topic, partitions=1)

        async def is_told() -> bool:
            return await lost_ranges(connection) == [(1, partition, 0, 20) for partition in range(PARTITIONS)]

        await until(is_told, "the loss")
    made = await proved(stack, database_url)
    assert {(loss.partition, loss.first_offset, loss.end_offset) for loss in made.losses or ()} == {
        (partition, 0, 20) for partition in range(PARTITIONS)
    }


async def test_what_was_seen_of_the_old_log_and_not_folded_is_lost_too(connection: Any, worker: Worker) -> None:
    folding, waiting = TP("webhooks.x", 0), TP("webhooks.x", 1)
    await connection.execute("INSERT INTO redrive.positions VALUES (1, 'webhooks.x', 0, 20, $1)", OLD)
    await worker.positions({folding: Extent(0, 20, OLD)}, True)
    await worker.look({folding: Extent(0, 50, OLD), waiting: Extent(0, 7, OLD)})
    await worker.look({folding: Extent(0, 3, NEW), waiting: Extent(0, 2, NEW)})
    assert await worker.positions({folding: Extent(0, 5, NEW)}, True) == {}
    assert await lost_ranges(connection) == [(1, 0, 0, 50), (1, 1, 0, 7)]


async def test_what_was_folded_of_two_topics_in_turn_is_all_folded(connection: Any, worker: Worker) -> None:
    """Each was deleted once it was folded: nothing of it is unknown, whichever was longer."""
    tp = TP("webhooks.x", 0)
    await connection.execute("INSERT INTO redrive.positions VALUES (1, 'webhooks.x', 0, 20, $1)", OLD)
    for before, after, end in ((OLD, NEW, 50), (NEW, OLD, 30), (OLD, NEW, 0)):
        await worker.positions({tp: Extent(0, end, after)}, True)
        await connection.execute("UPDATE redrive.positions SET next_offset = $1, topic_id = $2", end, after)
        assert before != after
    row = await connection.fetchrow("SELECT first_offset, end_offset, folded_to FROM redrive.lost_ranges")
    assert tuple(row) == (0, 50, 50)
    await connection.execute("UPDATE redrive.positions SET next_offset = 10, topic_id = $1", OLD)
    await worker.look({tp: Extent(0, 70, OLD)})
    await worker.positions({tp: Extent(0, 5, NEW)}, True)
    row = await connection.fetchrow("SELECT first_offset, end_offset, folded_to FROM redrive.lost_ranges")
    assert tuple(row) == (0, 70, 10)


async def test_positions_of_before_ids_were_kept_adopt_the_one_that_is_there(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    await produce(stack.servers, batch(topic, range(60)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 60), "the first fold")
    await connection.execute("UPDATE redrive.positions SET topic_id = NULL")
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        found = await id_of(stack, topic)
        assert found is not None

        async def are_adopted() -> bool:
            return await stored_ids(connection) == {found}

        await until(are_adopted, "the ids are there")
        await produce(stack.servers, batch(topic, range(60, 90)))
        await until(folded(connection, 90), "the rest")
    await assert_folded_once(connection, 90)


async def test_a_batch_that_was_read_of_the_old_log_moves_no_position_of_the_new_one(connection: Any) -> None:
    """Whoever froze with it, and comes back once the new log has grown to its offsets."""
    store = Store(1, NoLetters())
    await store.commit_batch(connection, Span("webhooks.x", 0, 0, 5, OLD), [])
    await connection.execute("UPDATE redrive.positions SET next_offset = 7, topic_id = $1", NEW)
    with pytest.raises(TopicReplaced):
        await store.commit_batch(connection, Span("webhooks.x", 0, 5, 9, OLD), [])
    assert await connection.fetchval("SELECT next_offset FROM redrive.positions") == 7
    await store.commit_batch(connection, Span("webhooks.x", 0, 7, 9, NEW), [])
    assert await connection.fetchval("SELECT next_offset FROM redrive.positions") == 9


async def test_a_generation_that_is_not_live_begins_again_with_the_new_log(connection: Any) -> None:
    await connection.execute("INSERT INTO redrive.generations (generation, state) VALUES (2, 'ready')")
    await connection.executemany(
        "INSERT INTO redrive.positions VALUES ($1, 'webhooks.x', 0, $2, $3)", [(1, 50, NEW), (2, 40, OLD)]
    )
    # What it reads now is of the new log, and its position of the old one.
    assert not await connection.fetchval("SELECT redrive.follow(2, 'webhooks.x', 0, 40, 45)")
    follow_from = "SELECT next_offset FROM redrive.follow_from(2, '{webhooks.x}', '{0}', '{0}')"
    assert await connection.fetchval(follow_from) == 0
    assert await lost_ranges(connection) == [(2, 0, 0, 40)]
    assert await connection.fetchval("SELECT redrive.follow(2, 'webhooks.x', 0, 0, 45)")
    assert await connection.fetchval(follow_from) == 45


async def test_a_partition_that_is_added_is_folded_and_has_its_lag(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await produce(stack.servers, batch(topic, range(30)))
        await until(folded(connection, 30), "the partitions that were there")
        await add_partitions(stack.servers, topic, PARTITIONS + 1)
        added = [record(topic, "stripe", one.value or b"", partition=PARTITIONS) for one in batch(topic, range(30, 40))]
        await produce(stack.servers, added)
        await until(folded(connection, 40), "the one that was added")
        await until(lambda: lag(topic, PARTITIONS) == 0, "its lag")
    await assert_folded_once(connection, 40)


async def test_the_lag_of_partitions_that_somebody_else_has_is_told(
    stack: Stack,
    template: str,
    topic: str,
    database_url: str,
    connection: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member of the group folds into another database, as with a copy of this one: it must not look caught up."""

    async def keep_quiet(extents: Mapping[TP, Extent]) -> bool:
        # In this process, they have one page of metrics.
        return False

    async with (
        fresh_database(stack, template) as copy,
        run_worker(stack, database_url, topic, topic, tmp_path) as (_, app),
    ):
        async with run_worker(stack, copy, topic, topic, tmp_path) as (other, other_app):
            monkeypatch.setattr(other, "look", keep_quiet)
            await until(lambda: other_app.is_reading and app.is_reading and other_app.batches.assignment(), "both read")
            taken = {tp.partition for tp in other_app.batches.assignment()}
            await produce(stack.servers, batch(topic, range(30)))
            await until(folded(connection, 10 * (PARTITIONS - len(taken))), "the partitions that are left")
            expected = [10 * (one in taken) for one in range(PARTITIONS)]
            await until(lambda: [lag(topic, one) for one in range(PARTITIONS)] == expected, "the lag of all of them")
        await until(folded(connection, 30), "the rest")


async def test_a_topic_that_is_missing_has_no_id(stack: Stack, topic: str) -> None:
    ids = TopicIds(stack.cluster)
    try:
        found = await ids([topic, f"webhooks.none{uuid4().hex[:6]}"])
    finally:
        await ids.stop()
    assert list(found) == [topic]
    assert isinstance(found[topic], UUID)
