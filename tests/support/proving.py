"""Proofs made and verified in this process, as the command does it, over a topic that is folded."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from replay.audit import Author
from replay.log.reader import LogReader
from replay.prove.certificate import Certificate
from replay.prove.losses import record_ends
from replay.prove.prover import Prover, Versions
from replay.prove.recheck import Recheck, recheck
from replay.prove.views import NOTHING_CONFIGURED, Configured
from tests.conftest import Stack

RECORDS: Final = 60
Prove = Callable[..., Awaitable[Certificate]]
NOTHING: Any = lambda *_: None  # noqa: E731


@asynccontextmanager
async def connected(url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    found = await asyncpg.connect(url)
    try:
        yield found
    finally:
        await found.close()


async def proved(
    stack: Stack,
    url: str,
    advance: Any = NOTHING,
    ours: Versions | None = None,
    accepting: Author | None = None,
    configured: Configured = NOTHING_CONFIGURED,
) -> Certificate:
    async with connected(url) as live, connected(url) as shadow:
        prover = Prover(live, shadow, ours or Versions.of_this_process(), configured)
        async with LogReader(stack.cluster) as reader:
            made = await prover.prove(reader, advance, accepting)
        await record_ends(live, made.losses or (), accepting)
        return made


async def check(stack: Stack, url: str, certificate: Certificate, ours: Versions | None = None) -> Recheck:
    async with connected(url) as shadow, LogReader(stack.cluster) as reader:
        return await recheck(certificate, shadow, ours or Versions.of_this_process(), reader, NOTHING)
