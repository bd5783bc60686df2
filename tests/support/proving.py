"""Proofs made in this process, as the command makes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from deploy.folding import SchemaFolding
from deploy.proving import our_versions
from replay.prove.certificate import Certificate
from replay.prove.prover import Prover, Versions
from replay.prove.shadow import SCHEMA
from replay.window import LogReader
from tests.conftest import Stack


@asynccontextmanager
async def connected(url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    found = await asyncpg.connect(url)
    try:
        yield found
    finally:
        await found.close()


async def proved(stack: Stack, url: str, advance: Any = lambda *_: None, ours: Versions | None = None) -> Certificate:
    async with connected(url) as live, connected(url) as shadow:
        prover = Prover(live, shadow, SchemaFolding.into(SCHEMA), ours or our_versions())
        async with LogReader(stack.cluster) as reader:
            return await prover.prove(reader, advance)
