"""The dedupe window by its size: memory, what an id costs, and how long a start with a saved one takes."""

import asyncio
import tempfile
from typing import Any, Final

import orjson

from bench.options import Options
from bench.results import Findings, Sample
from bench.stack import Stack, say
from bench.subject import environment, module
from schemas.errors import Unavailable

MILLIONS: Final = (1, 2, 5)
PRIVATE: Final = "private"
SHARED: Final = "shared"
_STEPS: Final = {"claim": "claim a new id", "settle": "settle it", "find": "find a known id"}
_LOAD: Final = "load from disk"


async def measure(stack: Stack, options: Options) -> Findings:
    samples: list[Sample] = []
    for number in range(1, options.rounds + 1):
        for millions in MILLIONS:
            samples += await _filled(stack, number, millions, PRIVATE)
        samples += await _filled(stack, number, MILLIONS[0], SHARED)
        samples.append(await _loaded(stack, number))
    return Findings(
        name="window",
        title="The dedupe window, by the ids that it holds",
        unit="ids",
        samples=tuple(samples),
        comparisons=(),
        cpu_thousands=1000,
        notes=(
            "CPU s per 1000k ids are µs per id. The table is made for as many ids (`DEDUPE_MAX_IDS`), and filled."
            " Memory is what the process grew by. Known ids are sought in random order, a million at most.",
            "`shared`: the table of several processes, with its lock; one process at work.",
            f"`{_LOAD}`: a start with a window that was saved in chunks of 2,000 ids; the log has nothing to add.",
        ),
    )


async def _run(stack: Stack, *arguments: str) -> dict[str, Any]:
    """In a process of its own: memory that others freed must not look like none."""
    process = await asyncio.create_subprocess_exec(
        *module("bench.subjects.window_fill", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=environment(stack, "window"),
        cwd=stack.folder,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise Unavailable(f"window_fill {' '.join(arguments)} ended with {process.returncode}")
    found: dict[str, Any] = orjson.loads(output)
    return found


async def _filled(stack: Stack, number: int, millions: int, kind: str) -> list[Sample]:
    count = millions * 1_000_000
    found = await _run(stack, str(count), kind)
    case = f"{millions} million ids" + (", shared" if kind == SHARED else "")
    memory = found["rss"] / 2**20 / millions
    # A bucket that overflows forgets its oldest: one in ten thousand buckets of a full table.
    missed = {"not found, per million": found["missed"] / found["sought"] * 1e6}
    say(f"round {number}, {case}: {memory:.0f} MiB per million")
    samples = []
    for step, (seconds, cpu) in found["steps"].items():
        ids = found["sought"] if step == "find" else count
        details = {"MiB per million ids": memory} if step == "claim" else missed if step == "find" else {}
        samples.append(Sample(_STEPS[step], case, number, ids / seconds, cpu / ids * 1000, details))
    return samples


async def _loaded(stack: Stack, number: int) -> Sample:
    count = MILLIONS[0] * 1_000_000
    with tempfile.TemporaryDirectory(dir=stack.folder) as folder:
        found = await _run(stack, str(count), "saved", folder)
    if found["loaded"] != count:
        raise Unavailable(f"{found['loaded']} of {count} ids were loaded")
    seconds, cpu = found["steps"]["load"]
    say(f"round {number}: {count:,} ids loaded in {seconds:.1f} s")
    details = {"s to start": seconds, "MiB on disk": found["saved"] / 2**20}
    return Sample(_LOAD, f"{MILLIONS[0]} million ids", number, count / seconds, cpu / count * 1000, details)
