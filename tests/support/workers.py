"""A live worker in this process, through Faust itself, on the real Kafka and Postgres."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.services.processors import ProcessorsService
from processors.app import TopicSubscription
from processors.faust_transport import BatchApp
from processors.worker import Worker
from tests.conftest import Stack
from tests.support.runtimes import runtime_of, signals


@asynccontextmanager
async def run_worker(
    stack: Stack, url: str, topic: str, group: str, folder: Path
) -> AsyncIterator[tuple[Worker, BatchApp]]:
    """The worker of one process, over this topic alone."""
    data = folder / secrets.token_hex(4)
    data.mkdir()
    async with (
        ProcessorsService.open(runtime_of(stack, data, url), signals()) as service,
        service.folding(TopicSubscription([topic], group, "redrive-tests")) as app,
    ):
        yield service.worker, app


def folded(connection: Any, count: int) -> Callable[[], Any]:
    """Whether the positions have come that far, all together."""

    async def check() -> bool:
        return bool(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM redrive.positions") == count)

    return check


async def assert_folded_once(connection: Any, count: int) -> None:
    assert await connection.fetchval("SELECT count(*) FROM payments") == count
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index") == count
    assert await connection.fetchval("SELECT count(*) FROM redrive.lost_ranges") == 0
