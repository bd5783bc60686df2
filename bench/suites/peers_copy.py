"""A copy of one topic into another: so far only the baseline, a loop without a framework."""

import time
from typing import Final

from bench.events import fill_topic
from bench.fold_runs import whole_stories
from bench.options import Options
from bench.results import Findings, Sample
from bench.stack import TOPIC, Stack, say
from bench.subject import environment, module, running
from bench.timing import time_progress
from schemas.errors import Unavailable

LOOP: Final = "aiokafka getmany → send_batch"
TARGET: Final = "bench.copy"


async def measure(stack: Stack, options: Options) -> Findings:
    events = whole_stories(options.events)
    samples: list[Sample] = []
    try:
        await stack.fresh_topic()
        say(f"appending {events:,} events")
        await fill_topic(stack.servers, events)
        for number in range(1, options.rounds + 1):
            samples.append(await _copy(stack, number, events))
    finally:
        await stack.drop_topic(TARGET)
        await stack.drop_topic()
    return Findings(
        name="peers-copy",
        title="Copy of a topic into another",
        unit="records",
        samples=tuple(samples),
        comparisons=(),
        cpu_thousands=100,
        notes=(
            f"{events:,} signed Stripe events of 1 KB in 12 partitions, copied with key, headers, timestamp"
            " and partition, `acks=all`, idempotent. Timed by the end of the target's log, from the first batch seen"
            " there.",
            "The baseline of a replay into a topic. Every run has the same records, but for their times: no seed.",
        ),
    )


async def _copy(stack: Stack, number: int, events: int) -> Sample:
    await stack.fresh_topic(TARGET)
    argv = module("bench.subjects.copy_loop", TOPIC, f"bench-{time.time_ns()}", TARGET)
    env = environment(stack, "copy")
    async with running(stack, LOOP, argv, env) as process, stack.watching(TARGET) as end:
        found = await time_progress(process, end, events)
    if (copied := await stack.log_end(TARGET)) != events:
        raise Unavailable(f"{copied} records were copied of {events}")
    say(f"{LOOP}: {found.per_second:,.0f} records/s")
    return Sample(LOOP, "whole log", number, found.per_second, found.cpu_per_1k)
