"""Invariants 7 and 9, partition by partition: what holds up one partition holds up no other, and nothing is skipped."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from processors import fold as folding
from processors import worker as fold_worker
from processors.dead_letters import KafkaDeadLetters
from processors.partition_state import BATCHES_PER_PARTITION, Extent, Start
from processors.positions import MOVE_POSITION
from tests.conftest import Stack
from tests.support.records import PARTITIONS, FakeRecord, batch, payment, produce, record, refused
from tests.support.waiting import until
from tests.support.workers import assert_folded_once, folded, run_worker


def held_payment(topic: str, created: int) -> FakeRecord:
    """A later event about the payment `pi_0`, on the partition that is to be held up."""
    return record(topic, "stripe", payment(0, amount=200, created=created).replace(b'"evt_0"', b'"evt_held"'))


async def positions(connection: Any) -> dict[int, int]:
    rows = await connection.fetch("SELECT partition, next_offset FROM redrive.positions")
    return {row["partition"]: row["next_offset"] for row in rows}


async def test_a_row_that_another_session_holds_stops_its_partition_alone(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    holder = await asyncpg.connect(database_url)
    try:
        async with run_worker(stack, database_url, topic, topic, tmp_path) as (worker, app):
            await produce(stack.servers, batch(topic, range(30)))
            await until(folded(connection, 30), "before")
            seek = app._seek
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("SELECT FROM gen_1.payments WHERE payment_intent_id = 'pi_0' FOR UPDATE")
            await produce(stack.servers, [held_payment(topic, 1_760_000_100)])
            # Again and again: they go on for as long as the first one is held, not only with what was under way.
            for part in range(1, 6):
                first = 30 * part
                await produce(stack.servers, batch(topic, range(first, first + 30)))

                async def others_went_on(expected: int = 10 * (part + 1)) -> bool:
                    found = await positions(connection)
                    return found[1] == found[2] == expected

                await until(others_went_on, "the other partitions")
                assert (await positions(connection))[0] == 10
            await until(lambda: gave_up_waiting() >= 1, "the lock is given up, so that the connection is free")
            assert worker.is_database_up
            assert app._seek is seek, "the others were not held up until they were sought again"
            waiting = app.batches._thread._readings.get(TP(topic, 0))
            assert waiting is not None
            assert waiting.handed - waiting.done <= BATCHES_PER_PARTITION
            await transaction.rollback()
            await until(folded(connection, 181), "the rest")
    finally:
        await holder.close()
    assert await connection.fetchval("SELECT count(*) FROM payments") == 180
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index") == 181
    assert await connection.fetchval("SELECT amount FROM payments WHERE payment_intent_id = 'pi_0'") == 200


def gave_up_waiting() -> float:
    return REGISTRY.get_sample_value("redrive_processors_retries_total", {"reason": "LockNotAvailableError"}) or 0


async def test_a_batch_that_a_bug_of_ours_meets_stops_its_partition_alone(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (worker, _):
        original, is_broken = worker._fold_on, True

        async def fail_on_the_first_partition(connection: Any, tp: Any, *rest: Any) -> None:
            if is_broken and tp.partition == 0:
                raise RuntimeError("a bug of ours")
            await original(connection, tp, *rest)

        monkeypatch.setattr(worker, "_fold_on", fail_on_the_first_partition)
        await produce(stack.servers, batch(topic, range(300)))
        await until(folded(connection, 200), "the other partitions")
        assert 0 not in await positions(connection)
        is_broken = False
        await until(folded(connection, 300), "the rest")
    await assert_folded_once(connection, 300)


async def test_the_next_batch_is_decoded_while_the_database_works_on_one(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: set[int] = set()
    given_up = gave_up_waiting()

    def note(raw: Any) -> Any:
        decoded.add(raw.partition)
        return folding.fold_record(raw)

    monkeypatch.setattr(fold_worker, "fold_record", note)
    holder = await asyncpg.connect(database_url)
    try:
        async with run_worker(stack, database_url, topic, topic, tmp_path), holder.transaction():
            await holder.execute("LOCK TABLE gen_1.payments")
            await produce(stack.servers, batch(topic, range(30)))
            await until(lambda: len(decoded) > 1, "a second batch")
            assert gave_up_waiting() == given_up, "the first one is still at work"
            assert await positions(connection) == {}
    finally:
        await holder.close()


async def test_a_poison_record_between_partitions_folded_at_once_dies_alone(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """Whose data Postgres refuses: the halves are tried one by one, next to the transactions of other partitions."""
    records = batch(topic, range(3000))
    for number in (4, 1003, 2999):
        records[number] = record(topic, "stripe", refused(number), partition=number % PARTITIONS)
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 3000), "all of it")
    assert await connection.fetchval("SELECT count(*) FROM payments") == 2997
    rows = await connection.fetch("SELECT record_offset FROM redrive.event_index WHERE status = 'dead' ORDER BY 1")
    assert [row[0] for row in rows] == sorted(number // PARTITIONS for number in (4, 1003, 2999))


async def test_a_position_that_somebody_else_moved_meanwhile_is_no_loss(connection: Any) -> None:
    await connection.execute("INSERT INTO redrive.positions VALUES (1, 'webhooks.x', 0, 50)")
    assert await connection.fetchval(MOVE_POSITION, 1, "webhooks.x", 0, 10, 40, 0) is None
    assert await connection.fetchval("SELECT count(*) FROM redrive.lost_ranges") == 0
    assert await positions(connection) == {0: 50}


async def test_a_log_that_lost_its_tail_is_written_down_and_folded_from_its_start(
    stack: Stack, connection: Any, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    await connection.execute("INSERT INTO redrive.positions VALUES (1, 'webhooks.x', 0, 50)")
    worker = fold_worker.Worker(pool, KafkaDeadLetters(stack.cluster))
    tp = TP("webhooks.x", 0)
    assert await worker.positions({tp: Extent(3, 10)}, is_confirmed=False) == {}
    assert await worker.positions({tp: Extent(3, 10)}, is_confirmed=True) == {tp: Start(3)}
    lost = await connection.fetch("SELECT first_offset, end_offset FROM redrive.lost_ranges")
    assert [tuple(row) for row in lost] == [(10, 50)]
    assert await positions(connection) == {0: 3}
