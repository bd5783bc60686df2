"""A proof, wired: connections of its own, the processors' projections, the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import asyncpg

from deploy.folding import SchemaFolding
from deploy.wiring import Runtime, connect
from processors.projections import versions
from replay.certificate import Certificate
from replay.prove import Code, Prover
from replay.recheck import Recheck, recheck
from replay.shadow import SCHEMA, Advance
from replay.window import LogReader


def code_of_now() -> Code:
    return Code(version("redrive"), dict(sorted(versions().items())))


async def prove(runtime: Runtime, advance: Advance) -> Certificate:
    async with _session(runtime) as live, _session(runtime) as shadow, LogReader(runtime.cluster()) as reader:
        return await Prover(live, shadow, SchemaFolding.into(SCHEMA), code_of_now()).prove(reader, advance)


async def check(runtime: Runtime, certificate: Certificate, advance: Advance) -> Recheck:
    async with _session(runtime) as shadow, LogReader(runtime.cluster()) as reader:
        folding = SchemaFolding.into(SCHEMA)
        return await recheck(certificate, shadow, folding, code_of_now(), reader, advance)


@asynccontextmanager
async def _session(runtime: Runtime) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """Not from a pool: its statements take as long as the tables are large."""
    connection = await connect(runtime.settings)
    try:
        yield connection
    finally:
        await connection.close()
