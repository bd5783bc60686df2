"""Folds ranges of the log into one schema, several partitions at once. Must not know what the schema is for.

While Postgres writes one batch, the next is decoded. The batches of a partition are committed in order, so that whoever
keeps positions can move them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from processors.outcome import RawRecord
from replay.ports import BatchReader, Connection
from replay.selection.offsets import partition_of
from replay.selection.selection import Range
from schemas.errors import UnreadableRecord
from schemas.topics import TopicPartition

LANES: Final = 3
"""Transactions under way at once; a partition keeps to one of them."""

WAITING_BATCHES: Final = 2
"""Read and not yet written, of each lane: what bounds the memory, whatever the log's length."""

PORTION_RECORDS: Final = 64
DEADLOCKS: Final = 10
"""The limit in a row, for one batch: more are not chance."""


class ConnectionPool(Protocol):
    """Where each lane gets its connection: a pool."""

    def acquire(self) -> AbstractAsyncContextManager[Connection]: ...


class Sink(Protocol):
    """Where a batch goes: fact tables, or the target of a replay."""

    def fold(self, raw: RawRecord) -> Any:
        """The value that is committed for a record."""
        ...

    async def commit(
        self,
        connection: Connection,
        records: Sequence[Any],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Any], Awaitable[None]],
    ) -> Any:
        """In one transaction: `first`, the records, `last` with what became of them, which it also returns."""
        ...


class Steps(Protocol):
    """The steps in the transaction of a batch, around its rows. `part` is the batch's range of a partition."""

    async def before(self, connection: Connection, part: Range) -> None: ...

    async def after(self, connection: Connection, part: Range, records: Sequence[Any], outcome: Any) -> None: ...


class NoSteps:
    """For a fold that is thrown away: only its rows are wanted."""

    async def before(self, connection: Connection, part: Range) -> None:
        return None

    async def after(self, connection: Connection, part: Range, records: Sequence[Any], outcome: Any) -> None:
        return None


def _until_no_deadlock() -> AsyncRetrying:
    """Batches lock rows in one order, but for those in which Postgres refuses a record: these go one by one."""
    return AsyncRetrying(
        retry=retry_if_exception_type(asyncpg.DeadlockDetectedError),
        wait=wait_random(0, 0.2),
        stop=stop_after_attempt(DEADLOCKS),
        reraise=True,
    )


class LogFold:
    """One pass over some ranges. `advance` hears, after each commit, what the batch covered; `is_wanted` leaves records
    out that only their events can tell of.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        sink: Sink,
        steps: Steps | None = None,
        advance: Callable[[Range], None] | None = None,
        is_wanted: Callable[[RawRecord, Any], bool] | None = None,
    ) -> None:
        self._pool = pool
        self._sink = sink
        self._steps = steps or NoSteps()
        self._advance = advance
        self._is_wanted = is_wanted
        self._decoding = asyncio.Lock()

    async def run(self, reader: BatchReader, ranges: Sequence[Range]) -> None:
        """Returns once everything is committed. Raises what reading, or the database, raises; only a batch that lost to
        another one of ours is tried again.
        """
        lanes: list[asyncio.Queue[tuple[Range, list[Any]] | None]]
        lanes = [asyncio.Queue(WAITING_BATCHES) for _ in range(LANES)]
        lane_of: dict[TopicPartition, int] = {}
        unreadable: UnreadableRecord | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for queue in lanes:
                    group.create_task(self._write(queue))
                try:
                    async for part, records in reader.read(ranges):
                        lane = lane_of.setdefault(partition_of(part), len(lane_of) % LANES)
                        await lanes[lane].put((part, records))
                except UnreadableRecord as error:
                    # All else was read, and is committed first.
                    unreadable = error
                for queue in lanes:
                    await queue.put(None)
        except ExceptionGroup as failed:
            # The first is the one to tell; the others were under way.
            raise failed.exceptions[0] from failed
        if unreadable is not None:
            raise unreadable

    async def _write(self, lane: "asyncio.Queue[tuple[Range, list[Any]] | None]") -> None:
        async with self._pool.acquire() as connection:
            while (batch := await lane.get()) is not None:
                await self._commit(connection, *batch)

    async def _commit(self, connection: Connection, part: Range, records: list[Any]) -> None:
        folded = await self._fold(records)

        async def first() -> None:
            await self._steps.before(connection, part)

        async def last(outcome: Any) -> None:
            await self._steps.after(connection, part, folded, outcome)

        async for attempt in _until_no_deadlock():
            with attempt:
                await self._sink.commit(connection, folded, first, last)
        if self._advance is not None:
            self._advance(part)

    async def _fold(self, records: list[Any]) -> list[Any]:
        """One lane at a time: decoding is the event loop's own work, and two at once would only both end later."""
        folded: list[Any] = []
        async with self._decoding:
            for first in range(0, len(records), PORTION_RECORDS):
                portion = records[first : first + PORTION_RECORDS]
                found = [self._sink.fold(record) for record in portion]
                if self._is_wanted is not None:
                    pairs = zip(portion, found, strict=True)
                    found = [one for record, one in pairs if self._is_wanted(record, one)]
                folded += found
                # Let the transactions under way hear Postgres's answers.
                await asyncio.sleep(0)
        return folded
