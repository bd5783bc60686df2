"""Proofs made and verified in this process, as the command does it, over a topic that is folded."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from deploy import redriving
from replay.audit import Author
from replay.prove.certificate import Certificate
from replay.prove.prover import Versions
from replay.prove.recheck import Recheck
from replay.prove.views import NOTHING_CONFIGURED, Configured
from schemas.settings import FileConfig
from tests.conftest import Stack
from tests.support.runtimes import runtime_of

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
    file = FileConfig(price_tiers=dict(configured.price_tiers))
    return await redriving.prove(runtime_of(stack, Path(), url, file), advance, accepting, ours=ours)


async def check(stack: Stack, url: str, certificate: Certificate, ours: Versions | None = None) -> Recheck:
    return await redriving.check(runtime_of(stack, Path(), url), certificate, NOTHING, ours)
