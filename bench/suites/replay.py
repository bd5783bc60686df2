"""A replay of the whole log, against the live fold of the same log in the same round."""

import asyncio
import os
import sys
from typing import Any, Final

import asyncpg
import orjson

from bench.events import fill_topic
from bench.fold_runs import REDRIVE, fold, require_rows, whole_stories
from bench.options import Options
from bench.results import Comparison, Findings, Sample
from bench.stack import TOPIC, Stack, say
from bench.subject import environment
from schemas.errors import Unavailable

FOLDED: Final = "replay, everything is there"
EMPTY: Final = "replay, the tables are empty"
_FOLDED_DATABASE: Final = "bench_folded"
_EMPTY_DATABASE: Final = "bench_emptied"


async def measure(stack: Stack, options: Options) -> Findings:
    events = whole_stories(options.events)
    say(f"appending {events:,} events")
    await stack.fresh_topic()
    await fill_topic(stack.servers, events)
    samples: list[Sample] = []
    try:
        for number in range(1, options.rounds + 1):
            samples += await _round(stack, number, events)
    finally:
        await stack.drop_topic()
    return Findings(
        name="replay",
        title="Replay of a whole window, against the live fold",
        unit="records",
        samples=tuple(samples),
        comparisons=(Comparison(FOLDED, REDRIVE), Comparison(EMPTY, REDRIVE)),
        notes=(
            f"{events:,} signed Stripe events of 1 KB, selected by time. `redrive processors` folds them first; a"
            " replay then changes no row. Into empty tables (positions set, rows gone) it writes them all.",
            "The rate is that of the run; the plan, which reads the window once before, is in a column of its own.",
        ),
    )


async def _round(stack: Stack, number: int, events: int) -> list[Sample]:
    live = await fold(stack, REDRIVE, _FOLDED_DATABASE, events)
    await require_rows(stack.url(_FOLDED_DATABASE), events)
    await stack.checkpoint()
    again = await _replay(stack, _FOLDED_DATABASE, events)
    if again["rows_changed"]:
        raise Unavailable(f"a replay of what was folded changed {again['rows_changed']} rows")
    await _empty_copy(stack)
    anew = await _replay(stack, _EMPTY_DATABASE, events)
    await require_rows(stack.url(_EMPTY_DATABASE), events)
    for name in (_FOLDED_DATABASE, _EMPTY_DATABASE):
        await stack.drop_database(name)
    return [
        Sample(REDRIVE, "whole log", number, live.per_second, live.cpu_per_1k),
        _sample(FOLDED, number, again),
        _sample(EMPTY, number, anew),
    ]


def _sample(subject: str, number: int, ran: dict[str, Any]) -> Sample:
    records = ran["records"]
    rate = records / ran["run_seconds"]
    say(f"{subject}: {rate:,.0f} records/s")
    details = {"plan, records/s": records / ran["plan_seconds"], "peak memory, MiB": ran["peak_mib"]}
    return Sample(subject, "whole log", number, rate, ran["run_cpu_seconds"] / records * 1000, details)


async def _empty_copy(stack: Stack) -> None:
    """Positions as the live worker left them, and not one row."""
    folded = await asyncpg.connect(stack.url(_FOLDED_DATABASE))
    empty = await asyncpg.connect(await stack.fresh_database(_EMPTY_DATABASE))
    try:
        rows = await folded.fetch(
            "SELECT generation, topic, partition, next_offset FROM redrive.positions WHERE topic = $1", TOPIC
        )
        await empty.executemany("INSERT INTO redrive.positions VALUES ($1, $2, $3, $4)", [tuple(row) for row in rows])
    finally:
        await folded.close()
        await empty.close()


async def _replay(stack: Stack, database: str, events: int) -> dict[str, Any]:
    env = {**environment(stack, "replay"), "DATABASE_URL": stack.url(database)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.subjects.replay_run",
        stdout=asyncio.subprocess.PIPE,
        cwd=stack.folder,
        env={**os.environ, **env},
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise Unavailable("the replay failed; its error is above")
    found: dict[str, Any] = orjson.loads(output)
    if found["state"] != "done" or found["records"] != events or found["dead"]:
        raise Unavailable(f"the replay is not what was asked for: {found}")
    return found
