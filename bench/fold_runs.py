"""Runs a subject that folds the log into a fresh database, and times it by the positions that it commits."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import asyncpg

from bench.events import STORY_EVENTS, STORY_ROWS
from bench.stack import TOPIC, Stack, say
from bench.subject import Subject, environment, running
from schemas.errors import Unavailable

POLL_SECONDS: Final = 0.05
LIMIT_SECONDS: Final = 600.0

PLAIN: Final = "plain getmany loop"
REDRIVE: Final = "redrive processors"
STOCK: Final = "Faust, take(1000)"
KEYED: Final = "Faust in batches, one keyed table"
KEYED_STOCK: Final = "Faust, take(1000), one keyed table"

_FOLDED: Final = "SELECT coalesce(sum(next_offset), 0)::bigint FROM redrive.positions WHERE topic = $1"


@dataclass(frozen=True, slots=True)
class _Reading:
    folded: int
    at: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Folding:
    """From the first commit seen to the last: start-up, the group's first rebalance and the first batch don't count."""

    records: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_per_1k(self) -> float:
        return self.cpu_seconds / self.records * 1000


async def fold(stack: Stack, subject: str, database: str, target: int) -> Folding:
    """Run one subject, by its name above, until `target` offsets are folded into the fresh database."""
    url = await stack.fresh_database(database)
    env = {**environment(stack, "fold"), "DATABASE_URL": url, "PROCESSORS_PORT": "0"}
    group = f"bench-{time.time_ns()}"
    commands = {
        PLAIN: ("plain-loop", "bench.subjects.plain_loop", TOPIC, group),
        REDRIVE: ("processors", "deploy", "processors"),
        STOCK: ("stock-agent", "bench.subjects.stock_agent", TOPIC, group, "fold"),
        KEYED: ("batch-agent", "bench.subjects.batch_agent", TOPIC, group),
        KEYED_STOCK: ("stock-agent", "bench.subjects.stock_agent", TOPIC, group, "keyed"),
    }
    connection = await asyncpg.connect(url)
    try:
        async with running(stack, *commands[subject], env=env) as process:
            found = await _time(connection, process, target)
    finally:
        await connection.close()
    say(f"{subject}: {found.per_second:,.0f} records/s over {found.records:,} records")
    return found


async def _time(connection: "asyncpg.Connection[asyncpg.Record]", process: Subject, target: int) -> Folding:
    statement = await connection.prepare(_FOLDED)
    first: _Reading | None = None
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        folded = await statement.fetchval(TOPIC)
        if folded and (first is None or folded >= target):
            reading = _Reading(folded, time.perf_counter(), process.cpu_seconds())
            if first is None:
                first = reading
            elif folded > first.folded:
                return Folding(
                    reading.folded - first.folded, reading.at - first.at, reading.cpu_seconds - first.cpu_seconds
                )
            if first.folded >= target:
                raise Unavailable(f"{process.name} folded everything at once: more --events are needed for a figure")
        process.require_alive()
        await asyncio.sleep(POLL_SECONDS)
    raise Unavailable(f"{process.name} did not fold {target} records in {LIMIT_SECONDS:.0f} s")


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


def whole_stories(events: int) -> int:
    """The greatest number of events up to `events` that leaves no story unfinished."""
    return events // STORY_EVENTS * STORY_EVENTS
