"""Invariants 7 and 9 through Faust itself: rebalances, a second worker, a restored database, a database that is away."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from processors.partition_state import Start
from schemas.topics import DEAD_LETTER
from tests.conftest import Stack
from tests.support.records import PARTITIONS, batch, produce, record
from tests.support.waiting import until
from tests.support.workers import assert_folded_once, folded, run_worker


async def test_a_topic_is_folded_and_a_restart_goes_on_where_the_rows_end(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    await produce(stack.servers, batch(topic, range(600)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 600), "the first fold")
    await produce(stack.servers, batch(topic, range(600, 900)))
    # Another group has no offsets in Kafka at all: the positions in Postgres alone decide.
    async with run_worker(stack, database_url, topic, topic + "-anew", tmp_path):
        await until(folded(connection, 900), "the second fold")
    await assert_folded_once(connection, 900)


async def test_a_second_worker_takes_over_and_hands_back(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (_, first):
        await produce(stack.servers, batch(topic, range(300)))
        await until(folded(connection, 300), "one worker")
        async with run_worker(stack, database_url, topic, topic, tmp_path) as (_, second):
            await until(
                lambda: (
                    0 < len(second.consumer.assignment()) < PARTITIONS
                    and len(first.consumer.assignment()) + len(second.consumer.assignment()) == PARTITIONS
                ),
                "the partitions are shared",
            )
            await produce(stack.servers, batch(topic, range(300, 900)))
            await until(folded(connection, 900), "two workers")
        await until(lambda: len(first.consumer.assignment()) == PARTITIONS, "the partitions are back")
        await produce(stack.servers, batch(topic, range(900, 1200)))
        await until(folded(connection, 1200), "one worker again")
    await assert_folded_once(connection, 1200)


FORGET_NEWER = """
    DELETE FROM redrive.event_index AS i USING redrive.positions AS p
    WHERE i.topic = p.topic AND i.partition = p.partition AND i.record_offset >= p.next_offset
"""
"""An older backup's index ends where its positions are."""


async def test_a_database_restored_to_an_older_backup_is_folded_forward_again(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """While the worker runs: its next batch starts past the stored position, so it rewinds."""
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await produce(stack.servers, batch(topic, range(300)))
        await until(folded(connection, 300), "before the backup")
        async with connection.transaction():
            await connection.execute("UPDATE redrive.positions SET next_offset = 40")
            await connection.execute("DELETE FROM gen_1.payments")
            await connection.execute(FORGET_NEWER)
            for number in range(120):
                await connection.execute(
                    "INSERT INTO gen_1.payments (source, payment_intent_id) VALUES ($1, $2)",
                    topic.removeprefix("webhooks."),
                    f"pi_{number}",
                )
        await produce(stack.servers, batch(topic, range(300, 303)))
        await until(folded(connection, 303), "after the restore")
    await assert_folded_once(connection, 303)


async def test_rewinds_under_load_lose_nothing_and_fold_nothing_twice(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    """Batches of the old reading are on their way whenever the positions fall back; none may pass for progress."""
    count = 12_000
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        producing = asyncio.create_task(produce(stack.servers, batch(topic, range(count))))
        for part in range(1, 6):
            await until(folded_at_least(connection, part * count // 8), "some of it")
            async with connection.transaction():
                await connection.execute("UPDATE redrive.positions SET next_offset = next_offset / 2")
                await connection.execute("DELETE FROM gen_1.payments")
                await connection.execute(FORGET_NEWER)
        await connection.execute("UPDATE redrive.positions SET next_offset = 0")
        await producing
        await until(folded(connection, count), "all of it")
    await assert_folded_once(connection, count)


def folded_at_least(connection: Any, count: int) -> Callable[[], Any]:
    async def check() -> bool:
        return bool(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM redrive.positions") >= count)

    return check


async def test_a_restored_database_is_noticed_without_any_traffic(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await produce(stack.servers, batch(topic, range(600)))
        await until(folded(connection, 600), "before the backup")
        async with connection.transaction():
            await connection.execute("UPDATE redrive.positions SET next_offset = 10")
            await connection.execute("DELETE FROM gen_1.payments")
            await connection.execute(FORGET_NEWER)
        await until(folded(connection, 600), "after the restore")
    assert await connection.fetchval("SELECT count(*) FROM payments") == 600 - 3 * 10


async def test_records_that_leave_the_log_while_the_fold_waits_are_written_down_as_lost(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

    async with run_worker(stack, database_url, topic, topic, tmp_path) as (_, app):
        await produce(stack.servers, batch(topic, range(30)))
        await until(folded(connection, 30), "the first records")
        # The reader is sent back to where the log will no longer be. That Faust then drops what it had fetched for the
        # paused partitions is part of the test: nothing comes after it that would show the gap.
        await app.batches.rewind(dict.fromkeys(app.batches.assignment(), Start(0)))
        app.batches.pause_partitions(app.batches.assignment())
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
        await admin.start()
        try:
            await produce(stack.servers, batch(topic, range(30, 60)))
            await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(before_offset=15)})
        finally:
            await admin.close()
        app.batches.resume_partitions(app.batches.assignment())
        await until(folded(connection, 60), "the rest")
    lost = [
        tuple(row)
        for row in await connection.fetch("SELECT partition, first_offset, end_offset FROM redrive.lost_ranges")
    ]
    count = await connection.fetchval("SELECT count(*) FROM payments")
    # Either the worker had fetched them before they went, or they are written down: never neither.
    assert (count, lost) in ((60, []), (55, [(1, 10, 15)]))


async def test_a_poison_record_goes_to_the_dead_letters_with_its_origin_and_the_rest_goes_on(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, read_topic: Any
) -> None:
    records = batch(topic, range(30))
    records[12] = record(topic, "stripe", b"\xffgarbage", partition=0)
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 30), "the batch with the poison")
    letters = [
        one for one in await read_topic(DEAD_LETTER) if dict(one.headers)["redrive_origin_topic"] == topic.encode()
    ]
    assert [one.value for one in letters] == [b"\xffgarbage"]
    headers = dict(letters[0].headers)
    assert headers["redrive_reason"] == b"unparsable"
    assert headers["ce_type"] == b"stripe.unparsable"
    row = await connection.fetchrow("SELECT topic, partition, record_offset FROM webhook_events WHERE status = 'dead'")
    assert tuple(row) == (topic, int(headers["redrive_origin_partition"]), int(headers["redrive_origin_offset"]))
    assert await connection.fetchval("SELECT count(*) FROM payments") == 29


async def test_what_the_log_no_longer_holds_is_written_down_as_lost(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

    await produce(stack.servers, batch(topic, range(90)))
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(before_offset=10)})
    finally:
        await admin.close()
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 90), "the rest is folded")
    lost = await connection.fetch("SELECT topic, partition, first_offset, end_offset FROM redrive.lost_ranges")
    assert [tuple(row) for row in lost] == [(topic, 1, 0, 10)]
    assert await connection.fetchval("SELECT count(*) FROM payments") == 80


async def test_while_the_database_refuses_the_fold_waits_and_nothing_dies(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, read_topic: Any
) -> None:
    """A failover's read-only phase: every batch is retried, none acknowledged, none dead."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (worker, _):
        await produce(stack.servers, batch(topic, range(30)))
        await until(folded(connection, 30), "before")
        admin = await asyncpg.connect(stack.postgres.url("postgres"))
        try:
            await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> $2",
                name,
                connection.get_server_pid(),
            )
            await produce(stack.servers, batch(topic, range(30, 60)))
            await until(lambda: not worker.is_database_up, "the worker notices")
            assert await connection.fetchval("SELECT sum(next_offset) FROM redrive.positions") == 30
        finally:
            await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> $2",
                name,
                connection.get_server_pid(),
            )
            await admin.close()
        await until(folded(connection, 60), "afterwards")
        assert worker.is_database_up
    await assert_folded_once(connection, 60)
    origins = {dict(one.headers)["redrive_origin_topic"] for one in await read_topic(DEAD_LETTER)}
    assert topic.encode() not in origins


async def test_faust_acknowledges_nothing_that_did_not_commit(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that raises is restarted; its batch comes again."""
    await produce(stack.servers, batch(topic, range(90)))
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (worker, _):
        original, failures = worker._fold_on, list[int]()

        async def fail_at_first(*arguments: Any) -> Any:
            if len(failures) < 2:
                failures.append(1)
                raise RuntimeError("a bug of ours")
            return await original(*arguments)

        monkeypatch.setattr(worker, "_fold_on", fail_at_first)
        await produce(stack.servers, batch(topic, range(90, 180)))
        await until(folded(connection, 180), "all of it, in spite of the bug")
    await assert_folded_once(connection, 180)
