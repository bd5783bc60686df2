"""The wired ports of rebuilding: this process's projections, its log, and tables and views as `migrate` makes them."""

from typing import Final

import asyncpg

from deploy import migrate
from deploy.wiring import Runtime
from replay.answering import WORK_SECONDS
from replay.log.folding import LANES
from replay.log.reader import LogReader
from replay.ports import Connection
from replay.tables.folding import LiveFolding, SchemaFolding, code
from replay.tables.generations import RebuildPorts

POOL_CONNECTIONS: Final = LANES + 2
"""Beside the lanes: one that holds the generation, one that looks at the lag."""


def rebuild_ports(runtime: Runtime, pool: "asyncpg.Pool[asyncpg.Record]") -> RebuildPorts:
    """`pool` has `POOL_CONNECTIONS`. Raises `Misconfigured`."""
    cluster, declared = runtime.cluster(), runtime.declared()

    async def create(connection: Connection, generation: int) -> None:
        await migrate.create_generation(connection, generation, declared)

    async def point(connection: Connection, generation: int) -> None:
        await migrate.point_views(connection, generation, declared)

    return RebuildPorts(
        pool, lambda: LogReader(cluster, WORK_SECONDS), SchemaFolding.into, LiveFolding, code(), declared, create, point
    )
