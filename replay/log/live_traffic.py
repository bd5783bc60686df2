"""Live traffic as a replay sees it: how far behind it is, and how long a replay pauses for it. Must not move positions.

Invariant 11: a replay slows down while live lag grows. It never stops: live traffic may be behind for reasons that no
pause cures.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, LiteralString

import asyncpg

from replay.log.reader import LogReader
from replay.ports import Connection
from replay.selection.selection import Range
from schemas.topics import TopicPartition

LOOK_SECONDS: Final = 1.0
TOLERATED_RECORDS: Final = 1000
"""A lag up to this does not count: live workers commit in batches."""

STILL_SECONDS: Final = 10.0
"""A topic without a commit for this long has no running processor."""

MAX_WEIGHT: Final = 16
MAX_PAUSE_SECONDS: Final = 5.0
PORTION_RECORDS: Final = 100
"""A replay's batch beside live traffic: its transactions are short, so that live ones wait for neither row nor turn."""

_LIVE_POSITIONS: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation)
"""

LogEnds = Callable[[set[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Partitions -> their ends, without those that have none to tell."""


class Lag:
    """How many records live traffic is behind, in the topics that somebody folds.

    Where no position moves, workers are stopped, or the source is paused: a replay that waits helps nobody.
    """

    def __init__(
        self,
        connection: "Connection | asyncpg.Pool[asyncpg.Record]",
        log_ends: LogEnds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._log_ends = log_ends
        self._clock = clock
        self._positions: dict[TopicPartition, int] | None = None
        self._moved_at: dict[str, float] = {}

    async def read(self) -> int | None:
        """None where no traffic flows."""
        rows = await self._connection.fetch(_LIVE_POSITIONS)
        found = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        before, self._positions = self._positions, found
        now = self._clock()
        if before is not None:
            self._moved_at.update({tp[0]: now for tp, position in found.items() if position > before.get(tp, 0)})
        folded = {topic for topic, moved_at in self._moved_at.items() if now - moved_at < STILL_SECONDS}
        if not folded:
            return None
        ends = await self._log_ends({tp for tp in found if tp[0] in folded})
        return sum([max(int(end - found[tp]), 0) for tp, end in ends.items()])


class Pace:
    """How much of its time a replay leaves to live traffic. Pure."""

    def __init__(self) -> None:
        self.weight = 0
        """A replay pauses so many times as long as it works."""
        self.lag = 0
        self.is_flowing = False

    def observe(self, behind: int | None) -> None:
        """`behind` as `Lag` says it."""
        lag, self.is_flowing = behind or 0, behind is not None
        grows, self.lag = lag > self.lag, lag
        if lag <= TOLERATED_RECORDS:
            self.weight = 0
        elif grows:
            self.weight = min(max(2 * self.weight, 1), MAX_WEIGHT)
        else:
            self.weight //= 2

    @property
    def reason(self) -> str | None:
        """For the ledger; None at full pace."""
        if not self.weight:
            return None
        return f"live traffic is {self.lag} records behind; running 1/{self.weight + 1} of the time"


class LiveTraffic:
    """Pauses a replay before each portion, and notes why; looks at the lag at most once a second."""

    def __init__(
        self,
        read_lag: Callable[[], Awaitable[int | None]],
        note: Callable[[str | None], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        noted: str | None = None,
    ) -> None:
        self._read_lag = read_lag
        self._note = note
        self._sleep = sleep
        self._clock = clock
        self._pace = Pace()
        self._noted = noted
        self._looked_at = -LOOK_SECONDS
        self._resumed_at: float | None = None

    @property
    def portion(self) -> int | None:
        """How many records may go at once; None: all that are there."""
        return PORTION_RECORDS if self._pace.is_flowing else None

    async def give_way(self) -> None:
        """Pause in proportion to the time since the last pause, for as long as there is a reason to."""
        now = self._clock()
        worked = now - self._resumed_at if self._resumed_at is not None else 0.0
        await self._look()
        while (left := now + min(worked * self._pace.weight, MAX_PAUSE_SECONDS) - self._clock()) > 0:
            await self._sleep(min(left, LOOK_SECONDS))
            await self._look()
        self._resumed_at = self._clock()

    async def _look(self) -> None:
        if self._clock() - self._looked_at < LOOK_SECONDS:
            return
        self._pace.observe(await self._read_lag())
        self._looked_at = self._clock()
        if self._pace.reason != self._noted:
            self._noted = self._pace.reason
            await self._note(self._noted)


class LiveFirst:
    """The log, read no faster than live traffic allows (invariant 11)."""

    def __init__(self, reader: LogReader, live: LiveTraffic) -> None:
        self._live = live
        self._reader = reader
        self.extents = reader.extents
        self.folded_extents = reader.folded_extents

    async def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        async for part, records in self._reader.read(ranges):
            await self._live.give_way()
            yield part, records


def live_first(reader: LogReader, connection: Connection) -> LiveFirst:
    """`connection` is used while the log is read, for the lag: it is in no snapshot, which would see none."""

    async def unnoted(_: str | None) -> None:
        return None

    return LiveFirst(reader, LiveTraffic(Lag(connection, reader.ends).read, unnoted))
