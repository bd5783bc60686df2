"""Proofs as the command and the console make them: on connections of their own, over the whole log."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg

from deploy.connections import connected_for_work
from deploy.wiring import Runtime
from replay.answering import WORK_SECONDS
from replay.audit import Author
from replay.log.live_traffic import LiveFirst, live_first
from replay.log.reader import LogReader
from replay.ports import Advance
from replay.prove.certificate import Certificate
from replay.prove.losses import record_ends
from replay.prove.prover import Prover, Versions
from replay.prove.recheck import Recheck, recheck
from replay.prove.views import Configured
from schemas.settings import Settings

Session = Callable[[Settings], "AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]"]
"""Opens a connection, not of a pool: its statements take as long as the tables are large."""


async def prove(
    runtime: Runtime, advance: Advance, accepting: Author | None = None, session: Session = connected_for_work
) -> Certificate:
    """`accepting`: who does without what the log lost, and why; it is on record before this returns.

    With `deploy.connections.opened` as its `session`, it outlasts a Postgres that is silent for a while.
    """
    settings, configured = runtime.settings, Configured(runtime.declared(), runtime.file.price_tiers)
    async with session(settings) as live, session(settings) as shadow, _live_first(runtime, session) as reader:
        prover = Prover(live, shadow, Versions.of_this_process(), configured)
        made = await prover.prove(reader, advance, accepting)
        await record_ends(live, made.losses or (), accepting)
        return made


async def check(runtime: Runtime, certificate: Certificate, advance: Advance) -> Recheck:
    async with connected_for_work(runtime.settings) as shadow, _live_first(runtime, connected_for_work) as reader:
        return await recheck(certificate, shadow, Versions.of_this_process(), reader, advance)


@asynccontextmanager
async def _live_first(runtime: Runtime, session: Session) -> AsyncIterator[LiveFirst]:
    """The lag has a session of its own: that of the cut sees none, and that of the shadow is busy."""
    async with session(runtime.settings) as looking, LogReader(runtime.cluster(), WORK_SECONDS) as reader:
        yield live_first(reader, looking)
