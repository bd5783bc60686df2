"""The work after a flip: events that only newer code applies are re-driven, so that the index calls them applied.

A killed process leaves the work on record, and the follower or the next command ends it. Must not decide what is live.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from processors.outcome import Folded, RawRecord
from processors.store import LIVE_GENERATION, Written
from replay.locks import Lock, advisory_lock, transaction_lock
from replay.log.folding import LogFold
from replay.log.live_traffic import live_first
from replay.log.reader import NEAR_OFFSETS, LogReader
from replay.ports import Connection
from replay.rebuild.fold import LOOK_SECONDS, NotFollowed
from replay.selection.offsets import Offsets, count, merged, partition_of, split
from replay.selection.selection import Range
from replay.tables.generations import RebuildPorts, is_beyond

PORTION_RECORDS: Final = 100_000
"""Whose offsets are held at once: what bounds the memory, however many events are ignored."""

_GENERATION_TO_REDRIVE: Final[LiteralString] = """
    SELECT g.generation, g.to_redrive FROM redrive.generations AS g
    WHERE g.generation = (SELECT live FROM redrive.generation) AND g.to_redrive IS NOT NULL
"""
_SCHEDULE_REDRIVE: Final[LiteralString] = """
    UPDATE redrive.generations SET to_redrive = coalesce(to_redrive, 'dead') WHERE generation = $1
"""
_MARK_REDRIVEN: Final[LiteralString] = "UPDATE redrive.generations SET to_redrive = NULL WHERE generation = $1"
# A requeue before the generation was made revived events into another one.
_DEAD_LETTERS_TO_REDRIVE: Final[LiteralString] = """
    SELECT topic, partition, record_offset FROM redrive.event_index WHERE status = 'dead'
    UNION
    SELECT r.topic, r.partition, r.record_offset
    FROM redrive.requeues AS r JOIN redrive.generations AS g ON r.last_at >= g.created_at
    WHERE r.outcome = 'revived' AND g.generation = (SELECT live FROM redrive.generation)
    ORDER BY 1, 2, 3
"""
_IGNORED_TO_REDRIVE: Final[LiteralString] = """
    SELECT DISTINCT topic, partition, record_offset FROM redrive.event_index WHERE status = 'ignored' ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """The generation that is live, and whether ignored events are to be re-driven into it, beside the dead letters."""

    generation: int
    is_all: bool


async def leave(connection: Connection, number: int) -> None:
    """In the transaction of a flip: on record, that it leaves something to do."""
    await connection.execute(_SCHEDULE_REDRIVE, number)


async def pending(connection: Connection) -> Pending | None:
    row = await connection.fetchrow(_GENERATION_TO_REDRIVE)
    return None if row is None else Pending(row["generation"], row["to_redrive"] == "all")


async def settle(ports: RebuildPorts, reader: LogReader) -> int:
    """End what the last flip left, or wait until whoever is at it has. Returns how many dead letters were re-driven."""
    async with ports.pool.acquire() as holder:
        while (found := await pending(holder)) is not None:
            # Our code would spoil rows that newer code folded.
            if await is_beyond(holder, found.generation, ports.code):
                return 0
            dead = await try_to_settle(ports, reader, holder, found)
            if dead is not None:
                return dead
            await asyncio.sleep(LOOK_SECONDS)
    return 0


async def try_to_settle(ports: RebuildPorts, reader: LogReader, holder: Connection, wanted: Pending) -> int | None:
    """None: somebody else is at it. Records that are gone from the log stay what they are."""
    async with advisory_lock(holder, Lock.FOLD, "try", wanted.generation) as is_ours:
        if not is_ours:
            return None
        try:
            settlement = _Settlement(ports, reader, holder, wanted.generation)
            dead = await settlement.redrive(_DEAD_LETTERS_TO_REDRIVE, only_with_rows=False)
            if wanted.is_all:
                # One that is ignored again is only read: nothing would change.
                await settlement.redrive(_IGNORED_TO_REDRIVE, only_with_rows=True)
            await holder.execute(_MARK_REDRIVEN, wanted.generation)
            return dead
        except NotFollowed:
            # Another one went live.
            return 0


class _Settlement:
    """Records folded into a generation for as long as it is live. `holder` is used while the log is read."""

    def __init__(self, ports: RebuildPorts, reader: LogReader, holder: Connection, generation: int) -> None:
        self._ports = ports
        self._reader = reader
        self._holder = holder
        self._generation = generation

    async def redrive(self, query: LiteralString, only_with_rows: bool) -> int:
        """The records at the locations that a query finds in order. Returns how many of them the log still holds."""
        records = 0
        folding = self._ports.live_folding(self._generation)
        async with self._holder.transaction():
            async for portion in self._portions(query):
                held = await self._reader.extents({partition_of(part) for part in portion})
                starts, ends = ({place: bounds[n] for place, bounds in held.items()} for n in (0, 1))
                _, there, _ = split(portion, starts, ends)
                offsets = Offsets(there)

                def is_wanted(raw: RawRecord, folded: Folded, offsets: Offsets = offsets) -> bool:
                    is_there = offsets.holds(raw.topic, raw.partition, raw.offset)
                    return is_there and (bool(folded.rows) or not only_with_rows)

                fold = LogFold(self._ports.pool, folding, self, None, is_wanted)
                await fold.run(live_first(self._reader, self._holder), merged(there, NEAR_OFFSETS))
                records += count(there)
        return records

    async def _portions(self, query: LiteralString) -> AsyncIterator[list[Range]]:
        cursor = await self._holder.cursor(query)
        while rows := await cursor.fetch(PORTION_RECORDS):
            yield merged(Range(topic, partition, offset, offset + 1) for topic, partition, offset in rows)

    async def before(self, connection: Connection, part: Range) -> None:
        await transaction_lock(connection, Lock.GENERATION, "shared")
        if await connection.fetchval(LIVE_GENERATION) != self._generation:
            raise NotFollowed

    async def after(self, connection: Connection, part: Range, records: Sequence[Any], outcome: Written) -> None:
        return None
