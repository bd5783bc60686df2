"""Views are pointed at another generation beside their readers: nobody is the victim of a deadlock."""

import asyncio
from typing import Any

import asyncpg
import pytest

from deploy import migrate
from replay.tables.read_models import Declared
from tests.support.waiting import until

DECLARED = Declared("", "CREATE OR REPLACE VIEW :views.rich AS SELECT customer_id FROM :views.accounts;")
_WAITING = "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE NOT granted AND datname = $1"


@pytest.mark.parametrize("view", ["credits", "accounts", "rich"])
async def test_a_reader_of_a_view_that_reads_another_and_a_flip_wait_for_one_another_in_one_order(
    connection: Any, database_url: str, view: str
) -> None:
    await migrate.migrate(connection, database_url, DECLARED)
    name = await connection.fetchval("SELECT current_database()")
    blocker, flipping, reader = [await asyncpg.connect(database_url) for _ in range(3)]

    async def wait(count: int) -> None:
        async def is_so() -> bool:
            return bool(await connection.fetchval(_WAITING, name) == count)

        await until(is_so, f"{count} sessions wait for locks")

    async def flip() -> None:
        async with flipping.transaction():
            await migrate.point_views(flipping, 1, DECLARED)

    try:
        async with asyncio.TaskGroup() as group, blocker.transaction():
            # Whoever comes to it waits for it, and has what comes before.
            await blocker.execute("ALTER VIEW credit_entries RESET (security_barrier)")
            group.create_task(flip())
            await wait(1)
            reading = group.create_task(reader.fetch(f"SELECT * FROM {view}"))
            await wait(2)
        assert reading.result() == []
    finally:
        for one in (blocker, flipping, reader):
            one.terminate()
