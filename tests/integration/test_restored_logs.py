"""A log that lost its tail or was restored, under workers."""

from functools import partial
from pathlib import Path
from typing import Any

from faust.types import TP

from processors.compared_positions import ComparedPositions, read_records
from processors.partition_state import Extent, Start
from processors.worker import Worker
from tests.conftest import Stack
from tests.support.other_logs import OLD, lost_ranges
from tests.support.records import PARTITIONS, batch, produce
from tests.support.waiting import until
from tests.support.workers import folded, run_worker


async def test_a_log_that_lost_its_tail_under_a_worker_is_read_from_its_start(connection: Any, worker: Worker) -> None:
    """Kafka was restored to an older state, and nobody started again."""
    tp = TP("webhooks.x", 0)
    await connection.execute("INSERT INTO redrive.positions VALUES (1, 'webhooks.x', 0, 50, $1)", OLD)
    await worker.positions({tp: Extent(0, 50, OLD)}, True)
    ends = (50, 50, 10, 50, 10, 11)
    looks = [await worker.look({tp: Extent(0, end, OLD)}) for end in ends]
    assert looks == [False, False, False, False, False, True], "once may be a broker that is behind"
    assert await worker.positions({tp: Extent(0, 11, OLD)}, True) == {tp: Start(0, OLD)}
    assert await lost_ranges(connection) == [(1, 0, 11, 50)]


async def fold_other_records_from(connection: Any, offset: int) -> None:
    """As if other records had been folded from there on: the log was restored to an older state, and has grown."""
    await connection.execute(
        "UPDATE redrive.event_index SET received_at = received_at - interval '1 minute' WHERE record_offset >= $1",
        offset,
    )
    await connection.execute("DELETE FROM gen_1.payments")


async def test_a_log_that_was_restored_and_has_grown_past_the_positions_is_folded_again(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """By offsets and topic ids, nothing is wrong."""
    await produce(stack.servers, batch(topic, range(60)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 60), "the log of before")
    await fold_other_records_from(connection, 13)
    async with run_worker(stack, database_url, topic, topic, tmp_path):

        async def is_folded() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM payments") == 60)

        await until(is_folded, "the restored log")
    assert await lost_ranges(connection) == [(1, partition, 13, 20) for partition in range(PARTITIONS)]


async def test_a_restored_log_is_found_by_the_positions_of_before_the_outage(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """A worker that goes on reads of the new log before anybody looks, and moves the positions past it."""
    await produce(stack.servers, batch(topic, range(60)))
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (worker, app):
        await until(folded(connection, 60), "the log of before")
        partitions = app.batches.partitions([topic])
        await worker.look(await app.extents(partitions))
        before = worker.last_positions(await app.extents(partitions), partitions)
        await fold_other_records_from(connection, 13)
        await produce(stack.servers, batch(topic, range(60, 90)))
        await until(folded(connection, 90), "what came since")
        compared = ComparedPositions(partial(read_records, stack.cluster), worker)
        assert await compared.refold(before, await app.extents(partitions)) == partitions
        app.seek_in_background(partitions)

        async def is_folded() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM payments") == 90)

        await until(is_folded, "the restored log")
    assert await lost_ranges(connection) == [(1, partition, 13, 20) for partition in range(PARTITIONS)]
