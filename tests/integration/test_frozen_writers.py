"""Writers that meet, freeze, or are of another generation."""

import asyncio
import random
import struct
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from processors import store as store_module
from processors.failures import RETRYABLE
from processors.outcome import Dead
from processors.store import GenerationMoved, Span, Store, end_half_sent
from tests.support.records import payment, record
from tests.support.stores import TOPIC, commit, fold, position
from tests.support.waiting import until


async def test_a_zombie_moves_no_position_backwards_and_doubles_nothing(connection: Any, store: Store) -> None:
    batch = [record(TOPIC, "stripe", payment(n), n) for n in range(4)]
    await commit(connection, store, batch, 0, 4)
    await commit(connection, store, batch[:2], 0, 2)
    assert await position(connection) == 4
    assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE repeats = 0") == 4


async def test_a_worker_of_another_generation_writes_nothing(connection: Any, store: Store) -> None:
    await connection.execute("UPDATE redrive.generation SET live = 2")
    with pytest.raises(GenerationMoved):
        await commit(connection, store, [record(TOPIC, "stripe", payment(0), 0)], 0, 1)
    assert await position(connection) is None


async def test_two_writers_of_the_same_keys_do_not_deadlock(connection: Any, database_url: str, store: Store) -> None:
    """Rows are written in the order of their keys."""

    async def write(partition: int) -> None:
        own = await asyncpg.connect(database_url)
        try:
            for start in range(0, 200, 20):
                numbers = random.Random(start).sample(range(30), 20)
                batch = [record(TOPIC, "stripe", payment(n), start + i, partition) for i, n in enumerate(numbers)]
                span = Span(TOPIC, partition, start, start + 20)
                await store.commit_batch(own, span, fold(batch))
        finally:
            await own.close()

    await asyncio.gather(*(write(partition) for partition in range(4)))
    assert await connection.fetchval("SELECT sum(next_offset) FROM redrive.positions") == 800


async def test_a_process_that_freezes_while_it_writes_stops_nobody_else(
    connection: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the writers' lock, which a flip and a stop of all writing wait for."""
    frozen, thaw = asyncio.Event(), asyncio.Event()

    class Freezing:
        async def put(self, letters: Sequence[Dead]) -> None:
            frozen.set()
            await thaw.wait()

    monkeypatch.setattr(Store, "bounds", Store.bounds.replace("10s", "1s"))
    other = await asyncpg.connect(database_url)
    writing = asyncio.create_task(commit(other, Store(1, Freezing()), [record(TOPIC, "stripe", payment(1), 0)], 0, 1))
    await frozen.wait()
    await connection.execute("SELECT pg_advisory_lock(hashtext('redrive.generation'))")
    thaw.set()
    with pytest.raises(RETRYABLE):
        await writing
    assert await connection.fetchval("SELECT count(*) FROM payments") == 0
    other.terminate()


async def test_a_session_whose_process_froze_while_it_sent_is_ended(
    connection: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To Postgres it is not idle: it waits for the rest of a message, and keeps its locks for ever."""
    monkeypatch.setattr(store_module, "_END_HALF_SENT", store_module._END_HALF_SENT.replace("15 s", "0.2 s"))
    frozen: Any = await asyncpg.connect(database_url)
    busy = await asyncpg.connect(database_url)
    transaction = frozen.transaction()
    await transaction.start()
    await frozen.execute("SELECT pg_advisory_xact_lock_shared(hashtext('redrive.generation'))")
    query = b"SELECT $1::text"
    parse = b"half\0" + query + b"\0" + struct.pack("!h", 0)
    frozen._transport.write(b"P" + struct.pack("!i", len(parse) + 4) + parse)
    frozen._transport.write(b"B" + struct.pack("!i", 1_000_000) + b"x" * 100)
    async with busy.transaction():
        # Its client thinks.
        await busy.execute("SELECT 1")

        async def is_ended() -> bool:
            return await end_half_sent(connection) == [pid]

        pid = frozen.get_server_pid()
        await until(is_ended, "it is ended")
        await connection.execute("SELECT pg_advisory_lock(hashtext('redrive.generation'))")
        await busy.execute("SELECT 1")
    frozen.terminate()
    await busy.close()
