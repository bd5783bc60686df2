"""A copy of one topic into another: a replay into a topic, and the baseline, a loop without a framework."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from bench.events import fill_topic
from bench.fold_runs import whole_stories
from bench.options import Options
from bench.results import Comparison, Findings, Sample
from bench.stack import SOURCE, TOPIC, Stack, say
from bench.subject import environment, module, running
from bench.timing import time_progress
from replay.log.reader import LogReader
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.topics import DEFAULT_PARTITIONS

REPLAY: Final = "redrive replay into a topic"
LOOP: Final = "aiokafka getmany → send_batch"
TARGET: Final = "bench.copy"
_DATABASE: Final = "bench_copied"


async def measure(stack: Stack, options: Options) -> Findings:
    events = whole_stories(options.events)
    samples: list[Sample] = []
    try:
        await stack.fresh_topic()
        say(f"appending {events:,} events")
        await fill_topic(stack.servers, events)
        for number in range(1, options.rounds + 1):
            samples += [await _copy(stack, number, events), await _replay(stack, number, events)]
    finally:
        await stack.drop_topic(TARGET)
        await stack.drop_topic()
        await stack.drop_database(_DATABASE)
    return Findings(
        name="peers-copy",
        title="Copy of a topic into another",
        unit="records",
        samples=tuple(samples),
        comparisons=(Comparison(REPLAY, LOOP),),
        cpu_thousands=100,
        notes=(
            f"{events:,} signed Stripe events of 1 KB in 12 partitions, copied with key, headers, timestamp"
            " and partition, `acks=all`, idempotent. Timed by the end of the target's log, from the first batch seen"
            " there.",
            f"`{REPLAY}` is the command itself, `redrive replay run --to topic:… --foreground`: it also asks each"
            " record whether it is selected, adds two headers that say where it is from, and commits its progress to"
            " Postgres. The plan before it is not part of the time.",
            "Every run has the same records, but for their times: no seed.",
        ),
    )


async def _copy(stack: Stack, number: int, events: int) -> Sample:
    argv = module("bench.subjects.copy_loop", TOPIC, f"bench-{time.time_ns()}", TARGET)
    return await _timed(stack, LOOP, argv, environment(stack, "copy"), (number, events))


async def _replay(stack: Stack, number: int, events: int) -> Sample:
    url = await stack.fresh_database(_DATABASE)
    await _take_as_folded(stack, url)
    selection = ("--source", SOURCE, "--from", "1970-01-02T00:00:00Z")
    argv = module(
        *("deploy", "replay", "run", *selection, "--to", f"topic:{TARGET}", "--foreground", "--reason", "benchmark")
    )
    return await _timed(stack, REPLAY, argv, {**environment(stack, "replay"), "DATABASE_URL": url}, (number, events))


async def _take_as_folded(stack: Stack, url: str) -> None:
    """The live positions at the log's end: a replay leaves to the live workers what they have not folded."""
    async with LogReader(Cluster(stack.servers)) as reader:
        ends = await reader.ends({(TOPIC, partition) for partition in range(DEFAULT_PARTITIONS)})
    connection = await asyncpg.connect(url)
    try:
        rows = [(1, *partition, end) for partition, end in ends.items()]
        await connection.executemany("INSERT INTO redrive.positions VALUES ($1, $2, $3, $4)", rows)
    finally:
        await connection.close()


async def _timed(
    stack: Stack, subject: str, argv: Sequence[str], env: Mapping[str, str], of: tuple[int, int]
) -> Sample:
    number, events = of
    await stack.fresh_topic(TARGET)
    async with running(stack, subject, argv, env) as process, stack.watching(TARGET) as end:
        found = await time_progress(process, end, events)
    if (copied := await stack.log_end(TARGET)) != events:
        raise Unavailable(f"{copied} records were copied of {events}")
    say(f"{subject}: {found.per_second:,.0f} records/s")
    return Sample(subject, "whole log", number, found.per_second, found.cpu_per_1k)
