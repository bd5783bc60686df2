"""Replays, rebuilds and proofs, as the console and the commands run them: on the servers that the settings name."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import asyncpg

from deploy import migrate
from deploy.connections import connect, connected_for_work, open_pool
from deploy.targets import open_target
from deploy.wiring import Runtime
from replay.answering import WORK_SECONDS
from replay.audit import Author
from replay.jobs.jobs import Jobs
from replay.jobs.runner import ReplayRunner
from replay.log.folding import LANES
from replay.log.live_traffic import LiveFirst, live_first
from replay.log.reader import LogReader
from replay.ports import Advance, TargetSender
from replay.prove.certificate import Certificate
from replay.prove.losses import record_ends
from replay.prove.prover import Prover, Versions
from replay.prove.recheck import Recheck, recheck
from replay.prove.views import Configured
from replay.tables.generations import RebuildPorts
from replay.targets.document import target_of
from schemas.errors import InvalidSelection
from schemas.settings import Settings

POOL_CONNECTIONS: Final = LANES + 2
"""Beside the lanes of a rebuild: one holds the generation, one reads the lag."""

Session = Callable[[Settings], "AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]"]
"""Opens a connection, not of a pool: its statements take as long as the tables are large."""


def replay_jobs(current: Callable[[], Runtime], runner: ReplayRunner | None = None) -> Jobs:
    """`current` is the configuration of today: what it allows may have changed since the process began."""
    settings = current().settings
    return Jobs(partial(connect, settings), partial(open_pool, settings), runner or replay_runner(current))


def replay_runner(current: Callable[[], Runtime]) -> ReplayRunner:
    def open_kept(document: Mapping[str, Any], replay: uuid.UUID) -> TargetSender:
        target = target_of(document)
        if target is None:
            raise InvalidSelection("the ledger names no target")
        return open_target(current(), target, str(replay))

    return ReplayRunner(partial(LogReader, current().cluster(), WORK_SECONDS), open_kept)


def rebuild_ports(runtime: Runtime, pool: "asyncpg.Pool[asyncpg.Record]") -> RebuildPorts:
    """`pool` has `POOL_CONNECTIONS`. Raises `Misconfigured`."""
    open_log = partial(LogReader, runtime.cluster(), WORK_SECONDS)
    return RebuildPorts(pool, open_log, runtime.declared(), migrate.create_generation, migrate.point_views)


async def prove(
    runtime: Runtime,
    advance: Advance,
    accepting: Author | None = None,
    session: Session = connected_for_work,
    ours: Versions | None = None,
) -> Certificate:
    """`accepting`: who does without what the log lost, and why; it is on record before this returns.

    With `deploy.connections.opened` as its `session`, it outlasts a Postgres that is silent for a while.
    """
    settings, configured = runtime.settings, Configured(runtime.declared(), runtime.file.price_tiers)
    async with session(settings) as live, session(settings) as shadow, _live_first(runtime, session) as reader:
        prover = Prover(live, shadow, ours or Versions.of_this_process(), configured)
        made = await prover.prove(reader, advance, accepting)
        await record_ends(live, made.losses or (), accepting)
        return made


async def check(runtime: Runtime, certificate: Certificate, advance: Advance, ours: Versions | None = None) -> Recheck:
    async with connected_for_work(runtime.settings) as shadow, _live_first(runtime, connected_for_work) as reader:
        return await recheck(certificate, shadow, ours or Versions.of_this_process(), reader, advance)


@asynccontextmanager
async def _live_first(runtime: Runtime, session: Session) -> AsyncIterator[LiveFirst]:
    """The lag has a session of its own: that of the cut sees none, and that of the shadow is busy."""
    async with session(runtime.settings) as looking, LogReader(runtime.cluster(), WORK_SECONDS) as reader:
        yield live_first(reader, looking)
