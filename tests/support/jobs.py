"""A replay of ninety records, and how far it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from replay.jobs import ledger
from replay.jobs.jobs import Jobs
from tests.support.replays import state_of

RECORDS = 90
SLOWLY = 60.0
"""Records a second: a replay takes a second and a half."""


@asynccontextmanager
async def served(jobs: Jobs, pool: Any) -> AsyncIterator[None]:
    """As the console service runs them."""
    serving = asyncio.create_task(jobs.serve(pool))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def entry_of(connection: Any, replay: Any) -> dict[str, Any]:
    return await ledger.brief(connection, replay)


async def has_begun(connection: Any, replay: Any) -> bool:
    return bool((await entry_of(connection, replay))["records"])


async def assert_all_done(connection: Any, replay: Any) -> None:
    entry = await ledger.show_replay(connection, replay)
    assert (entry["state"], entry["error"], entry["progress"]) == ("done", None, 1.0)
    assert (entry["records"], entry["total"], entry["rows_changed"]) == (RECORDS, RECORDS, RECORDS)
    assert all(part["done"] == part["offsets"] == part["next_offset"] for part in entry["partitions"])
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS


async def is_over(connection: Any, replay: Any) -> bool:
    return await state_of(connection, replay) not in ledger.OPEN
