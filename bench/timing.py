"""Times a subject by the progress that others can see of it: its commits, or the end of the log that it writes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bench.subject import Subject
from schemas.errors import Unavailable

POLL_SECONDS: Final = 0.05
LIMIT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Reading:
    done: int
    at: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Timed:
    """From the first progress seen to the last: start-up, the group's rebalance and the first batch don't count."""

    records: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_per_1k(self) -> float:
        return self.cpu_seconds / self.records * 1000


async def time_progress(process: Subject, progress: Callable[[], Awaitable[int]], target: int) -> Timed:
    """Until `progress` returns `target` or more."""
    first: _Reading | None = None
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        done = await progress()
        if done and (first is None or done >= target):
            reading = _Reading(done, time.perf_counter(), process.cpu_seconds())
            if first is None:
                first = reading
            elif done > first.done:
                return Timed(reading.done - first.done, reading.at - first.at, reading.cpu_seconds - first.cpu_seconds)
            if first.done >= target:
                raise Unavailable(f"{process.name} did everything at once: more --events are needed for a figure")
        process.require_alive()
        await asyncio.sleep(POLL_SECONDS)
    raise Unavailable(f"{process.name} did not do {target} records in {LIMIT_SECONDS:.0f} s")
