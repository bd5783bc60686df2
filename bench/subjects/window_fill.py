"""`python -m bench.subjects.window_fill COUNT private|shared`: fills a dedupe window and looks up what is in it; with
`saved FOLDER`, it saves a window there and loads it again. Prints its figures as JSON.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple
from uuid import UUID

import orjson
import psutil

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.log_reading import LogTail, Seen
from ingest.dedupe.window import Claim, Content, DedupeWindow, content_of
from schemas.envelope import Location
from schemas.topics import TopicPartition

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TOPIC: Final = "webhooks.stripe"
WINDOW_MS: Final = 7 * 86_400_000
LOT: Final = 1000
"""What is made before the clock runs: ids are hashed by others."""

SAVED_PER_SECOND: Final = 2000
PARTITIONS: Final = 12


class _Tail:
    """A log that holds what was saved, and nothing more: reading its tail is no part of the figure."""

    def __init__(self, count: int) -> None:
        self._end = count

    async def read_tail(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        nothing: Sequence[Sequence[Seen]] = ()
        for seen in nothing:
            yield seen

    async def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        return {(TOPIC, number): (0, self._end) for number in range(PARTITIONS)}


def _contents(numbers: Iterable[int]) -> Iterator[list[Content]]:
    left = iter(numbers)
    while lot := list(islice(left, LOT)):
        yield [content_of(TOPIC, f"evt_{number:024d}", number.to_bytes(32, "big")) for number in lot]


class _Clock:
    """Seconds, of the wall and of this process's CPU, that one step took over all lots."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def time(self, name: str, step: Callable[[*Ts], T], *of: *Ts) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        done = step(*of)
        self.add(name, time.perf_counter() - wall, time.process_time() - cpu)
        return done

    def add(self, name: str, wall: float, cpu: float) -> None:
        total = self._found.setdefault(name, [0.0, 0.0])
        total[0] += wall
        total[1] += cpu

    def figures(self) -> dict[str, list[float]]:
        return self._found


def fill(count: int, is_shared: bool) -> dict[str, Any]:
    before = psutil.Process().memory_info().rss
    clock, now_ms = _Clock(), time.time_ns() // 1_000_000
    window = DedupeWindow(IdTable(count, is_shared), WINDOW_MS)

    def claim(lot: list[Content]) -> list[object]:
        return [window.claim(content, now_ms) for content in lot]

    def settle(pairs: list[tuple[Claim, Location]]) -> None:
        for claimed, location in pairs:
            window.settle(claimed, location)

    offset = 0
    for lot in _contents(range(count)):
        claims = [one for one in clock.time("claim", claim, lot) if isinstance(one, Claim)]
        locations = [Location(TOPIC, at % PARTITIONS, at // PARTITIONS) for at in range(offset, offset + len(lot))]
        offset += len(lot)
        # As many claims as ids: all of them are new.
        clock.time("settle", settle, list(zip(claims, locations, strict=True)))
    grown = psutil.Process().memory_info().rss - before
    # In the order of nothing, as copies come.
    sought = random.Random(1).sample(range(count), min(count, 1_000_000))
    missed = 0
    for lot in _contents(sought):
        found = clock.time("find", claim, lot)
        missed += sum(not isinstance(one, Location) for one in found)
    return {"count": count, "rss": grown, "missed": missed, "sought": len(sought), "steps": clock.figures()}


async def load(count: int, folder: Path) -> dict[str, Any]:
    """Save a window of so many ids as a busy host does, in a chunk a second; then start with it."""
    now_ms = time.time_ns() // 1_000_000

    @asynccontextmanager
    async def open_tail(_: Sequence[str]) -> AsyncIterator[LogTail]:
        yield _Tail(count)

    async def topic_ids(topics: Collection[str]) -> dict[str, UUID | None]:
        return dict.fromkeys(topics)

    table = IdTable(count)
    window = DedupeWindow(table, WINDOW_MS)
    keeper = WindowKeeper(table, window, folder, open_tail, topic_ids)
    for number, content in enumerate(content for lot in _contents(range(count)) for content in lot):
        window.remember(content, Location(TOPIC, number % PARTITIONS, number // PARTITIONS), now_ms)
        if number % SAVED_PER_SECOND == SAVED_PER_SECOND - 1:
            await keeper.collect()
            await keeper.save(now_ms)
    await keeper.collect()
    await keeper.save(now_ms)
    again = IdTable(count)
    wall, cpu = time.perf_counter(), time.process_time()
    await WindowKeeper(again, DedupeWindow(again, WINDOW_MS), folder, open_tail, topic_ids).open([TOPIC], now_ms)
    clock = _Clock()
    clock.add("load", time.perf_counter() - wall, time.process_time() - cpu)
    saved = sum(path.stat().st_size for path in folder.iterdir())
    return {"loaded": again.count, "saved": saved, "steps": clock.figures()}


def main() -> None:
    count, kind = int(sys.argv[1]), sys.argv[2]
    found = fill(count, kind == "shared") if kind != "saved" else asyncio.run(load(count, Path(sys.argv[3])))
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
