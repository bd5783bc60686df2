"""A live worker in this process, through Faust itself, on the real Kafka and Postgres."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from deploy.topic_ids import TopicIds
from processors.app import Subscription, create_app
from processors.dead_letters import KafkaDeadLetters
from processors.faust_transport import BatchApp
from processors.worker import Worker
from schemas.topics import MAX_RECORD_BYTES
from tests.conftest import Stack


def dead_letters_of(stack: Stack) -> KafkaDeadLetters:
    return KafkaDeadLetters(
        lambda: AIOKafkaProducer(
            bootstrap_servers=stack.servers, acks="all", enable_idempotence=True, max_request_size=MAX_RECORD_BYTES
        )
    )


@asynccontextmanager
async def run_worker(
    stack: Stack, url: str, topic: str, group: str, folder: Path
) -> AsyncIterator[tuple[Worker, BatchApp]]:
    """One worker, as `redrive processors` makes it."""
    pool = await asyncpg.create_pool(url, min_size=0, max_size=4, timeout=5)
    dead_letters = dead_letters_of(stack)
    worker = Worker(pool, dead_letters)
    data = folder / secrets.token_hex(4)
    data.mkdir()
    ids = TopicIds(stack.cluster)
    app = create_app(stack.cluster, Subscription([topic], group, "redrive-tests"), worker, ids, data)
    await app.start()
    try:
        yield worker, app
    finally:
        await app.stop()
        await dead_letters.stop()
        await ids.stop()
        pool.terminate()


def folded(connection: Any, count: int) -> Callable[[], Any]:
    """Whether the positions have come that far, all together."""

    async def check() -> bool:
        return bool(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM redrive.positions") == count)

    return check


async def assert_folded_once(connection: Any, count: int) -> None:
    assert await connection.fetchval("SELECT count(*) FROM payments") == count
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index") == count
    assert await connection.fetchval("SELECT count(*) FROM redrive.lost_ranges") == 0
