"""What running replays needs, wired: the projections, the log, the database, the targets."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from deploy.folding import LiveFolding
from deploy.wiring import Runtime, connect, open_pool
from replay.jobs import Jobs
from replay.ports import Connection, RawRecord, Taken, Target
from replay.runner import Ports
from replay.window import LogReader
from schemas.errors import InvalidSelection


def jobs(runtime: Runtime) -> Jobs:
    settings, cluster = runtime.settings, runtime.cluster()

    async def connect_alone() -> "asyncpg.Connection[asyncpg.Record]":
        return await connect(settings)

    async def pool_of(size: int) -> "asyncpg.Pool[asyncpg.Record]":
        return await open_pool(settings, size)

    return Jobs(Ports(connect_alone, pool_of, lambda: LogReader(cluster), LiveFolding, open_target, note_outcomes))


def open_target(document: Mapping[str, Any]) -> Target:
    """Raises `InvalidSelection`."""
    raise InvalidSelection(f"no target is of the kind {str(document.get('kind'))[:100]!r}")


async def note_outcomes(connection: Connection, replay: uuid.UUID, outcomes: Sequence[tuple[RawRecord, Taken]]) -> None:
    """No target of ours has outcomes."""
