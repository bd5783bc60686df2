"""From POST to row while a replay runs at full pace, and while none does (invariant 11)."""

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from statistics import quantiles
from typing import Any, Final

import asyncpg

from bench.events import fill_topic, token
from bench.fold_runs import whole_stories
from bench.options import Options
from bench.paced import post_paced
from bench.results import Findings, Sample
from bench.stack import SOURCE, TOPIC, Stack, say
from bench.subject import environment, module, running, wait_until_ready
from deploy.embedded.ports import free_ports
from schemas.errors import Unavailable

ALONE: Final = "live traffic alone"
BESIDE: Final = "beside a replay of the whole log"
PER_SECOND: Final = 100
WARM_UP_SECONDS: Final = 3
LOOK_SECONDS: Final = 0.01
FOLD_SECONDS: Final = 600.0
_DATABASE: Final = "bench_live"
_FOLDED: Final = "SELECT coalesce(sum(next_offset), 0)::bigint FROM redrive.positions WHERE topic = $1"
_SEEN: Final = "SELECT event_id FROM redrive.event_index WHERE source = $1 AND event_id = ANY($2::text[])"
_REPLAYED: Final = "SELECT coalesce(sum(records), 0)::bigint FROM redrive.replay_progress"


async def measure(stack: Stack, options: Options) -> Findings:
    events = whole_stories(options.events)
    samples: list[Sample] = []
    for number in range(1, options.rounds + 1):
        samples += await _round(stack, number, options, events)
    await stack.drop_topic()
    await stack.drop_database(_DATABASE)
    return Findings(
        name="live",
        title="Live traffic beside a replay",
        unit="deliveries",
        samples=tuple(sorted(samples, key=lambda one: one.subject == BESIDE)),
        comparisons=(),
        notes=(
            f"One ingress, one worker. {PER_SECOND} valid deliveries a second are posted; a time runs from when one was"
            f" due until its row was seen, looked for every {LOOK_SECONDS * 1000:.0f} ms. The log holds {events:,}"
            " events that are folded already; the replay selects all of them, at no limit of its own, again and again.",
            "CPU is that of the ingress and the worker. `p99 ÷ alone` is taken within a round.",
        ),
    )


async def _round(stack: Stack, number: int, options: Options, events: int) -> list[Sample]:
    await stack.fresh_topic()
    await fill_topic(stack.servers, events)
    ports = free_ports(2)
    env = {
        **environment(stack, "live"),
        "DATABASE_URL": await stack.fresh_database(_DATABASE),
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": str(ports[0]),
        "PROCESSORS_PORT": str(ports[1]),
    }
    async with AsyncExitStack() as exits:
        connection = await asyncpg.connect(env["DATABASE_URL"])
        exits.push_async_callback(connection.close)
        worker = await exits.enter_async_context(running(stack, "processors", module("deploy", "processors"), env))
        ingest = await exits.enter_async_context(running(stack, "ingest", module("deploy", "ingest"), env))
        await wait_until_ready(ingest, ports[0], 1)
        async with asyncio.timeout(FOLD_SECONDS):
            while await connection.fetchval(_FOLDED, TOPIC) < events:
                await asyncio.sleep(0.2)
        url = f"http://127.0.0.1:{ports[0]}/webhooks/{SOURCE}"
        await post_paced(url, PER_SECOND, WARM_UP_SECONDS, f"warm-{number}-")
        found: dict[str, Sample] = {}
        for subject in (ALONE, BESIDE) if number % 2 else (BESIDE, ALONE):
            before = worker.cpu_seconds() + ingest.cpu_seconds()
            replaying = asyncio.create_task(_replay_again(stack, env)) if subject == BESIDE else None
            try:
                if replaying is not None:
                    await _until_it_writes(connection, replaying)
                replayed, started = await connection.fetchval(_REPLAYED), time.perf_counter()
                times = await _post_and_see(connection, url, options.seconds, f"{number}-{subject}-")
                rate = (await connection.fetchval(_REPLAYED) - replayed) / (time.perf_counter() - started)
            finally:
                if replaying is not None:
                    replaying.cancel()
                    await asyncio.gather(replaying, return_exceptions=True)
            cpu = worker.cpu_seconds() + ingest.cpu_seconds() - before
            percentiles = quantiles(times, n=100)
            details = {"p50 ms": percentiles[49] * 1000, "p99 ms": percentiles[98] * 1000, "replayed/s": rate}
            say(f"round {number}, {subject}: p99 {details['p99 ms']:.0f} ms, replay {rate:,.0f}/s")
            done = len(times) / options.seconds
            found[subject] = Sample(subject, f"{PER_SECOND}/s", number, done, cpu / len(times) * 1000, details)
    found[BESIDE].details["p99 ÷ alone"] = found[BESIDE].details["p99 ms"] / found[ALONE].details["p99 ms"]
    return list(found.values())


async def _post_and_see(connection: Any, url: str, seconds: int, series: str) -> list[float]:
    """Seconds from when each delivery was due until its row was there."""
    names = [f"{series}{number}" for number in range(PER_SECOND * seconds)]
    waiting = {f"evt_{token(name, 0)}": number / PER_SECOND for number, name in enumerate(names)}
    started = time.perf_counter()
    posting = asyncio.create_task(post_paced(url, PER_SECOND, seconds, series))
    times: list[float] = []
    while waiting:
        now = time.perf_counter() - started
        due = [event for event, at in waiting.items() if at <= now]
        seen = await connection.fetch(_SEEN, SOURCE, due)
        now = time.perf_counter() - started
        times += [now - waiting.pop(row["event_id"]) for row in seen]
        if posting.done() and now > seconds + FOLD_SECONDS:
            raise Unavailable(f"{len(waiting)} deliveries never became rows")
        await asyncio.sleep(LOOK_SECONDS)
    await posting
    return times


async def _until_it_writes(connection: Any, replaying: "asyncio.Task[None]") -> None:
    before = await connection.fetchval(_REPLAYED)
    while await connection.fetchval(_REPLAYED) == before:
        if replaying.done():
            await replaying
        await asyncio.sleep(0.05)


async def _replay_again(stack: Stack, env: dict[str, str]) -> None:
    """Until cancelled. Each takes in what came meanwhile as well."""
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.subjects.replay_run"),
            stdout=asyncio.subprocess.DEVNULL,
            cwd=stack.folder,
            env={**os.environ, **env},
        )
        try:
            if await process.wait():
                raise Unavailable("the replay failed; its error is above")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
