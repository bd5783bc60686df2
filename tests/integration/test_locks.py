"""No wait for a lock is without end: whoever waits too long hears which session has it, and how to end that one."""

import asyncio
from typing import Any

import asyncpg
import pytest

from replay.locks import Lock, advisory_lock, transaction_lock, try_lock
from schemas.errors import Locked

A_MOMENT = 0.05


@pytest.mark.parametrize("key", [None, 7, -7, "f3b8"])
@pytest.mark.parametrize("lock", [Lock.CORRECTIONS, Lock.REPLAY_CREATE])
async def test_a_wait_for_a_frozen_session_ends_and_names_it(
    connection: Any, database_url: str, lock: Lock, key: int | str | None
) -> None:
    frozen = await asyncpg.connect(database_url, server_settings={"application_name": "frozen"})
    other = await asyncpg.connect(database_url)
    try:
        assert await try_lock(other, lock, 1234)
        assert await try_lock(frozen, lock, key)
        with pytest.raises(Locked, match="session") as waited:
            async with advisory_lock(connection, lock, key=key, seconds=A_MOMENT):
                pass
        for part in (f"'{lock}'", f"session {frozen.get_server_pid()} (frozen)", "pg_terminate_backend"):
            assert part in str(waited.value)
        with pytest.raises(Locked, match=r"\(frozen\)"):
            async with connection.transaction():
                await transaction_lock(connection, lock, "exclusive", key, A_MOMENT)
        await connection.execute("SELECT pg_terminate_backend($1)", frozen.get_server_pid())
        async with advisory_lock(connection, lock, key=key):
            assert not await try_lock(other, lock, key)
        assert await try_lock(other, lock, key)
    finally:
        frozen.terminate()
        await other.close()


async def test_a_lock_that_is_had_in_time_leaves_the_session_as_it_was(connection: Any, database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    try:
        async with advisory_lock(other, Lock.CONTROL):
            waiting = asyncio.create_task(_took(connection))
        await waiting
        assert await connection.fetchval("SHOW lock_timeout") == "0"
    finally:
        await other.close()


async def _took(connection: Any) -> None:
    async with advisory_lock(connection, Lock.CONTROL, seconds=60):
        pass
