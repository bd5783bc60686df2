"""The log as a replay reads it: the selected records, within the rate, until it has to stop.

Must not write anything.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from processors.outcome import RawRecord
from replay.log.live_traffic import LiveTraffic
from replay.ports import BatchReader
from replay.selection.selection import Range
from schemas.errors import InvalidSelection

MAX_RATE: Final = 1e9

Sleep = Callable[[float], Awaitable[None]]


class ReplayStopped(Exception):
    """The replay was paused or cancelled, or this process no longer holds it."""


class StopSignal:
    """Set once; whoever sleeps hears it at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    async def sleep(self, seconds: float) -> None:
        """Raises `ReplayStopped`."""
        try:
            await asyncio.wait_for(self._event.wait(), max(seconds, 0))
        except TimeoutError:
            return
        raise ReplayStopped


def require_rate(per_second: float | None) -> float | None:
    """Raises `InvalidSelection`, also for NaN and infinity."""
    if per_second is not None and not 0 < per_second < MAX_RATE:
        raise InvalidSelection("invalid rate: expected a number of records a second, above 0")
    return per_second


class RateLimit:
    """At most `per_second` records, in portions of at most a tenth of a second's worth: nothing comes in bursts.

    `most`: of a portion, at any rate.
    """

    def __init__(self, per_second: float | None, sleep: Sleep = asyncio.sleep, most: int | None = None) -> None:
        self._per_second = per_second
        self._sleep = sleep
        self._most = most
        self._free_at = time.monotonic()

    @property
    def portion(self) -> int | None:
        """How many records may go at once; None: all that are there."""
        of_rate = None if self._per_second is None else max(int(self._per_second / 10), 1)
        return min((one for one in (of_rate, self._most) if one is not None), default=None)

    async def take(self, records: int) -> None:
        if self._per_second is None or not records:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now)
        await self._sleep(self._free_at - now)
        self._free_at += records / self._per_second


def portions(part: Range, records: Sequence[Any], size: int | None) -> Iterator[tuple[Range, list[Any]]]:
    """Cut what one fetch brought; the pieces cover the part without a break."""
    if size is None or not records:
        yield part, list(records)
        return
    start = part.start
    for first in range(0, len(records), size):
        piece = records[first : first + size]
        end = part.end if first + size >= len(records) else piece[-1].offset + 1
        yield Range(part.topic, part.partition, start, end), list(piece)
        start = end


class PacedReader:
    """A reader that gives way. Ends early, without an error, when asked to stop."""

    def __init__(
        self,
        reader: BatchReader,
        is_wanted: Callable[[RawRecord], bool],
        rate: RateLimit,
        live: LiveTraffic,
        stop: StopSignal,
    ) -> None:
        self._reader = reader
        self._is_wanted = is_wanted
        self._rate = rate
        self._live = live
        self._stop = stop

    async def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        try:
            async for fetched, records in self._reader.read(ranges):
                wanted = [record for record in records if self._is_wanted(record)]
                size = min((one for one in (self._rate.portion, self._live.portion) if one is not None), default=None)
                for part, portion in portions(fetched, wanted, size):
                    await self._live.give_way()
                    await self._rate.take(len(portion))
                    if self._stop.is_set:
                        return
                    yield part, portion
        except ReplayStopped:
            return
