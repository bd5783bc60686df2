"""Nobody is dragged along (invariant 9) by a record that the Kafka client can't read: its own partition rests there."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from deploy.lag_check import FoldState, unreadable_records
from processors.partition_state import Extent
from processors.unreadable import UnreadablePartitions
from replay.log.fold_lag import PartitionLag
from schemas.topics import source_of
from tests.conftest import Stack
from tests.support.bad_records import produce_unreadable
from tests.support.records import PARTITIONS, batch, produce
from tests.support.topics import delete_records
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

BAD = 1
"""The partition with the bad record."""


def gauge(topic: str) -> float | None:
    labels = {"topic": topic, "partition": str(BAD)}
    return REGISTRY.get_sample_value("redrive_processors_unreadable_partitions", labels)


async def test_a_record_that_cannot_be_read_holds_up_its_own_partition_alone(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await produce(stack.servers, batch(topic, range(60)))
    bad = await produce_unreadable(stack.servers, topic, BAD)
    await produce(stack.servers, batch(topic, range(60, 120)))
    location = f"{topic}/{BAD}/{bad}"
    each = 60 // PARTITIONS
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (_, app):
        await until(folded(connection, 2 * 2 * each + each), "all but what is behind the bad record")
        await until(lambda: app.unreadable.places == {TP(topic, BAD): bad}, "its partition is known to rest")
        await produce(stack.servers, batch(topic, range(120, 180)))
        await until(folded(connection, 2 * 3 * each + each), "the others go on")
        assert gauge(topic) == 1
        said = [line for line in caplog.records if getattr(line, "code", None) == "record_unreadable"]
        assert [line.location for line in said] == [location]  # type: ignore[attr-defined]
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (_, app):
        await until(lambda: app.unreadable.places == {TP(topic, BAD): bad}, "so it does after a restart")
        await produce(stack.servers, batch(topic, range(180, 240)))
        await until(folded(connection, 2 * 4 * each + each), "the others go on then, too")
        await delete_records(stack.servers, topic, BAD, bad + 1)
        await until(folded(connection, 240 + 1), "it goes on behind the record")
        assert (app.unreadable.places, gauge(topic)) == ({}, 0)
    assert await connection.fetchval("SELECT count(*) FROM payments WHERE source = $1", source_of(topic)) == 240
    lost = await connection.fetch("SELECT partition, first_offset, end_offset FROM redrive.lost_ranges")
    assert [tuple(row) for row in lost] == [(BAD, bad, bad + 1)]


async def test_check_names_the_record(stack: Stack, topic: str) -> None:
    await produce(stack.servers, batch(topic, range(3)))
    bad = await produce_unreadable(stack.servers, topic, BAD)
    partitions = [PartitionLag(topic, BAD, bad, bad + 1, 1), PartitionLag(topic, 2, 0, 1, 1)]
    found = await unreadable_records(stack.cluster, partitions)
    assert list(found) == [f"{topic}/{BAD}/{bad}"]
    state = FoldState(datetime.now(UTC), partitions, partitions, found)
    assert any(f"{topic}/{BAD}/{bad} can't be read" in said for said in state.warnings)


async def test_check_goes_on_where_the_log_lost_what_is_to_be_folded_next(stack: Stack, topic: str) -> None:
    """Nobody folds, and the records were deleted: no lost range says so yet."""
    await produce(stack.servers, batch(topic, range(6)))
    await delete_records(stack.servers, topic, 0, 1)
    bad = await produce_unreadable(stack.servers, topic, BAD)
    partitions = [PartitionLag(topic, 0, 0, 2, 2), PartitionLag(topic, BAD, bad, bad + 1, 1)]
    assert list(await unreadable_records(stack.cluster, partitions)) == [f"{topic}/{BAD}/{bad}"]


def test_a_partition_is_read_singly_before_it_rests_and_forgotten_once_the_log_starts_behind_it() -> None:
    found, tp = UnreadablePartitions(), TP("webhooks.x", 3)
    found.failed(tp, 5, ValueError())
    assert (found.is_read_singly(tp), found.places, found.resting()) == (True, {}, set())
    found.moved(tp, is_whole=False)
    found.failed(tp, 7, ValueError())
    assert (found.places, found.resting()) == ({tp: 7}, {tp})
    assert not found.passed({tp: Extent(7, 9)})
    assert found.passed({tp: Extent(8, 9)})
    assert (found.places, found.resting()) == ({}, set())
    found.moved(tp, is_whole=True)
    assert not found.is_read_singly(tp)
