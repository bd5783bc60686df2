"""Runs a plan: the selected records through the same projections and store, next to live traffic.

Never writes positions, never folds an offset at or above the live position, and gives way to live traffic.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, LiteralString

import asyncpg

from replay import metrics
from replay.ledger import Ledger
from replay.live_traffic import Lag, LiveTraffic
from replay.plan import Plan, is_selected
from replay.ports import Connection, GenerationFolding, Outcome
from replay.selection import Range
from replay.window import LogReader
from schemas.errors import Unavailable
from schemas.masking import describe

_LOCK: Final[LiteralString] = "SELECT pg_advisory_xact_lock_shared(hashtext('redrive.generation'))"
_LIVE: Final[LiteralString] = "SELECT live FROM redrive.generation"


class RateLimit:
    """At most `per_second` records, in portions of at most a tenth of a second's worth: nothing comes in bursts."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._free_at = time.monotonic()

    @property
    def portion(self) -> int | None:
        """How many records may go at once; None: all that are there."""
        return None if self._per_second is None else max(int(self._per_second / 10), 1)

    async def take(self, records: int) -> None:
        if self._per_second is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now)
        await asyncio.sleep(self._free_at - now)
        self._free_at += records / self._per_second


def portions(part: Range, records: Sequence[Any], size: int | None) -> Iterator[tuple[Range, Sequence[Any]]]:
    """Cut what one fetch brought; the pieces cover the part without a break."""
    if size is None or not records:
        yield part, records
        return
    start = part.start
    for first in range(0, len(records), size):
        piece = records[first : first + size]
        end = part.end if first + size >= len(records) else piece[-1].offset + 1
        yield Range(part.topic, part.partition, start, end), piece
        start = end


class Runner:
    """One run of one plan on one connection."""

    def __init__(self, connection: Connection, folding: GenerationFolding, ledger: Ledger, rate: RateLimit) -> None:
        self._connection = connection
        self._folding = folding
        self._ledger = ledger
        self._rate = rate

    async def run(self, reader: LogReader, plan: Plan, advance: Callable[[int], None]) -> None:
        """Re-drive everything; `advance` hears offsets done. The ledger says how it ended, whatever ends it: even of a
        process that was killed, because then it no longer holds the replay's lock.
        """
        await self._ledger.hold()
        try:
            await self._redrive(reader, plan, advance)
        except BaseException as error:
            # The connection may be what failed; the first error is the one to tell.
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await self._ledger.finish("failed", describe(error))
            raise
        await self._ledger.finish("done")

    async def _redrive(self, reader: LogReader, plan: Plan, advance: Callable[[int], None]) -> None:
        done = 0
        if not plan.ranges:
            return
        live = LiveTraffic(Lag(self._connection, reader.ends).read, self._ledger.slow)
        async for fetched, records in reader.read(plan.ranges):
            selected = [record for record in records if is_selected(plan.selection, record, self._folding.fold)]
            size = min((one for one in (self._rate.portion, live.portion) if one is not None), default=None)
            for part, portion in portions(fetched, selected, size):
                await live.give_way()
                await self._rate.take(len(portion))
                outcome = await self._commit(part, [self._folding.fold(record) for record in portion])
                done += len(part)
                metrics.batch_redriven(str(self._ledger.id), len(portion), outcome.dead, done / plan.offsets)
                advance(len(part))

    async def _commit(self, part: Range, records: list[object]) -> Outcome:
        async def first() -> None:
            await self._connection.execute(_LOCK)
            if await self._connection.fetchval(_LIVE) != self._folding.generation:
                raise Unavailable("another generation went live; run the replay again")

        async def last(outcome: Outcome) -> None:
            await self._ledger.advance(part, len(records), outcome)

        return await self._folding.commit(self._connection, records, first, last)
