"""The audit entries of commands that prepare an installation, once an audit exists. Must not prepare."""

from typing import Any, Final, LiteralString, TypeAlias

import asyncpg

from deploy.connections import connected
from deploy.wiring import Runtime
from replay import audit

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_HAS_AUDIT: Final[LiteralString] = "SELECT to_regclass('redrive.audit') IS NOT NULL"


async def record(connection: Connection, runtime: Runtime, action: str, **details: Any) -> bool:
    """Returns whether there is an audit: the first migration makes it."""
    if not await connection.fetchval(_HAS_AUDIT):
        return False
    await audit.note(connection, runtime.operator, action, None, **details)
    return True


async def record_on_its_own(runtime: Runtime, action: str, **details: Any) -> None:
    """The same, of a command that needs no database by itself. Without DATABASE_URL there is no audit to write to."""
    if runtime.settings.database_url is None:
        return
    async with connected(runtime.settings) as connection:
        await record(connection, runtime, action, **details)
