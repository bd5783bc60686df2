"""Runs a subject that folds the log into a fresh database, and times it by the positions that it commits."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import asyncpg

from bench import peer_programs
from bench.events import STORY_EVENTS, STORY_ROWS
from bench.stack import TOPIC, Stack, say
from bench.subject import environment, module, running
from bench.timing import Timed, time_progress
from schemas.errors import Unavailable

PLAIN: Final = "plain getmany loop"
PIPELINED: Final = "getmany loop, fetches while it writes"
REDRIVE: Final = "redrive processors"
STOCK: Final = "Faust, take(1000)"
KEYED: Final = "Faust in batches, one keyed table"
KEYED_STOCK: Final = "Faust, take(1000), one keyed table"
KEYED_PLAIN: Final = "plain getmany loop, one keyed table"
KEYED_PIPELINED: Final = "getmany loop, fetches while it writes, one keyed table"
BYTEWAX: Final = "Bytewax, one keyed table"
QUIX: Final = "Quix Streams, one keyed table"

FOLDED: Final = "SELECT coalesce(sum(next_offset), 0)::bigint FROM redrive.positions WHERE topic = $1"


async def fold(stack: Stack, subject: str, database: str, target: int) -> Timed:
    """Run one subject, by its name above, until `target` offsets are folded into the fresh database."""
    url = await stack.fresh_database(database)
    env = {**environment(stack, "fold"), "DATABASE_URL": url, "PROCESSORS_PORT": "0"}
    group = f"bench-{time.time_ns()}"
    loop, stock, peer = "bench.subjects.plain_loop", "bench.subjects.stock_agent", peer_programs.PYTHON
    commands = {
        PLAIN: module(loop, TOPIC, group, "fold", "plain"),
        PIPELINED: module(loop, TOPIC, group, "fold", "pipelined"),
        REDRIVE: module("deploy", "processors"),
        STOCK: module(stock, TOPIC, group, "fold"),
        KEYED: module("bench.subjects.batch_agent", TOPIC, group),
        KEYED_STOCK: module(stock, TOPIC, group, "keyed"),
        KEYED_PLAIN: module(loop, TOPIC, group, "keyed", "plain"),
        KEYED_PIPELINED: module(loop, TOPIC, group, "keyed", "pipelined"),
        BYTEWAX: module("bench.peers.bytewax_fold", TOPIC, python=peer),
        QUIX: module("bench.peers.quix_fold", TOPIC, group, python=peer),
    }
    connection = await asyncpg.connect(url)
    try:
        statement = await connection.prepare(FOLDED)
        async with running(stack, subject, commands[subject], env) as process:
            found = await time_progress(process, partial(statement.fetchval, TOPIC), target)
    finally:
        await connection.close()
    say(f"{subject}: {found.per_second:,.0f} records/s over {found.records:,} records")
    return found


async def require_rows(url: str, events: int) -> None:
    """A figure counts only if the tables hold what the log says."""
    stories = events // STORY_EVENTS
    wanted = {"redrive.event_index": events, **{f"gen_1.{name}": rows * stories for name, rows in STORY_ROWS.items()}}
    connection = await asyncpg.connect(url)
    try:
        found = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in wanted}
    finally:
        await connection.close()
    if found != wanted:
        raise Unavailable(f"the tables hold {found}, and should hold {wanted}")


async def require_keyed_rows(url: str, wanted: Sequence[tuple[int, int, str]]) -> None:
    """Row by row, by key."""
    connection = await asyncpg.connect(url)
    try:
        found = [tuple(row) for row in await connection.fetch("SELECT key, value, type FROM keyed ORDER BY key")]
    finally:
        await connection.close()
    if found != list(wanted):
        wrong = len(set(found) ^ set(wanted))
        raise Unavailable(f"the keyed table is not what the log says: {wrong} rows differ")


def whole_stories(events: int) -> int:
    """The greatest number of events up to `events` that leaves no story unfinished."""
    return events // STORY_EVENTS * STORY_EVENTS
