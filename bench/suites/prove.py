"""A proof by the length of the log: its memory, which must not grow, and what a record costs."""

import asyncio
import os
import time
from functools import partial
from itertools import islice
from typing import Any, Final

import asyncpg
import orjson

from bench.events import append, signed_events
from bench.fold_runs import FOLDED, REDRIVE, require_rows, whole_stories
from bench.options import Options
from bench.results import Findings, Sample
from bench.stack import TOPIC, Stack, say
from bench.subject import environment, module, running
from bench.timing import time_progress
from schemas.errors import Unavailable
from schemas.topics import DEFAULT_PARTITIONS

SUBJECT: Final = "redrive prove"
LENGTHS: Final = (1, 2, 4, 8)
"""Of the log, in `--events`."""

_DATABASE: Final = "bench_proved"


async def measure(stack: Stack, options: Options) -> Findings:
    samples: list[Sample] = []
    try:
        for number in range(1, options.rounds + 1):
            samples += await _round(stack, number, options.events)
    finally:
        await stack.drop_topic()
    return Findings(
        name="prove",
        title="A proof, by the length of the log",
        unit="records",
        samples=tuple(samples),
        comparisons=(),
        notes=(
            f"Signed Stripe events of 1 KB over {DEFAULT_PARTITIONS} partitions, folded by `redrive processors` as the"
            " log grows. Every proof folds all of it again, in a process of its own, and is `equal`.",
            "Peak memory is that process's, with the 70 MiB or so that it has before it begins. What Postgres holds is"
            " its own.",
        ),
    )


async def _round(stack: Stack, number: int, events: int) -> list[Sample]:
    await stack.fresh_topic()
    url = await stack.fresh_database(_DATABASE)
    records, logged, samples = signed_events(int(time.time())), 0, []
    for length in LENGTHS:
        count = whole_stories(events * length)
        say(f"a log of {count:,} events")
        await append(stack.servers, islice(records, count - logged), DEFAULT_PARTITIONS)
        logged = count
        await _fold(stack, url, count)
        await require_rows(url, count)
        samples.append(await _prove(stack, url, number, count))
    await stack.drop_database(_DATABASE)
    return samples


async def _fold(stack: Stack, url: str, target: int) -> None:
    """The live workers, from where they stood."""
    env = {**environment(stack, "fold"), "DATABASE_URL": url, "PROCESSORS_PORT": "0"}
    connection = await asyncpg.connect(url)
    try:
        statement = await connection.prepare(FOLDED)
        async with running(stack, REDRIVE, module("deploy", "processors"), env) as process:
            await time_progress(process, partial(statement.fetchval, TOPIC), target)
    finally:
        await connection.close()


async def _prove(stack: Stack, url: str, number: int, count: int) -> Sample:
    await stack.checkpoint()
    process = await asyncio.create_subprocess_exec(
        *module("bench.subjects.prove_run"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment(stack, "prove"), "DATABASE_URL": url},
        cwd=stack.folder,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise Unavailable("the proof failed; its error is above")
    found: dict[str, Any] = orjson.loads(output)
    if (found["verdict"], found["records"]) != ("equal", count):
        raise Unavailable(f"the proof is not what was asked for: {found}")
    say(f"round {number}, {count:,} records: {found['peak_mib']:.0f} MiB")
    rate, cpu = count / found["seconds"], found["cpu_seconds"] / count * 1000
    return Sample(SUBJECT, f"{count:,} records", number, rate, cpu, {"peak memory, MiB": found["peak_mib"]})
