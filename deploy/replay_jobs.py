"""The wired ports of running replays: the projections, the log, the database, the targets."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg

from deploy.connections import connect, open_pool
from deploy.targets import open_target
from deploy.wiring import Runtime
from replay.answering import WORK_SECONDS
from replay.jobs import outcomes
from replay.jobs.jobs import Jobs
from replay.jobs.runner import ReplayPorts
from replay.log.reader import LogReader
from replay.ports import TargetSender
from replay.targets.document import target_of
from schemas.errors import InvalidSelection


def jobs(current: Callable[[], Runtime]) -> Jobs:
    """`current` is the configuration of today: what it allows may have changed since the process began."""
    settings, cluster = current().settings, current().cluster()

    async def connect_alone() -> "asyncpg.Connection[asyncpg.Record]":
        return await connect(settings)

    async def pool_of(size: int) -> "asyncpg.Pool[asyncpg.Record]":
        return await open_pool(settings, size)

    def open_kept(document: Mapping[str, Any], replay: uuid.UUID) -> TargetSender:
        target = target_of(document)
        if target is None:
            raise InvalidSelection("the ledger names no target")
        return open_target(current(), target, str(replay))

    return Jobs(ReplayPorts(connect_alone, pool_of, lambda: LogReader(cluster, WORK_SECONDS), open_kept, outcomes.note))
