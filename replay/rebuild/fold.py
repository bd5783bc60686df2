"""Folds the log into a generation that is not live, from its start up to the live positions, next to live traffic.

Never folds an offset at or past the live position: those belong to the live workers. Must not decide what is live.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, LiteralString

from processors.store import Written
from replay.locks import Lock, advisory_lock
from replay.log.folding import LogFold
from replay.log.live_traffic import live_first
from replay.log.reader import LogReader
from replay.log.topic_ids import is_other
from replay.ports import Advance, BatchReader, Connection
from replay.selection.selection import Range
from replay.tables.generations import Generation, RebuildPorts, find
from schemas.errors import RedriveError, Unavailable

CLOSE_OFFSETS: Final = 500
"""So near to the live positions, a generation has caught up: what is left is folded while the flip holds them still."""

PATIENCE: Final = 50
"""The limit of passes over new records. A fold that is not nearer after these never will be."""

LOOK_SECONDS: Final = 0.5

_RANGES_TO_FOLD: Final[LiteralString] = """
    SELECT live.topic, live.partition, live.next_offset AS bound, live.topic_id
    FROM redrive.positions AS live
    LEFT JOIN redrive.positions AS own
      ON (own.generation, own.topic, own.partition) = ($1, live.topic, live.partition)
    WHERE live.generation = (SELECT live FROM redrive.generation)
      AND (own.next_offset, own.topic_id) IS DISTINCT FROM (live.next_offset, live.topic_id)
    ORDER BY 1, 2
"""
_FOLDED_AND_TO_FOLD: Final[LiteralString] = """
    SELECT coalesce(sum(least(coalesce(own.next_offset, 0), live.next_offset)), 0)::bigint AS done,
           coalesce(sum(live.next_offset), 0)::bigint AS of
    FROM redrive.positions AS live
    LEFT JOIN redrive.positions AS own
      ON (own.generation, own.topic, own.partition) = ($1, live.topic, live.partition)
    WHERE live.generation = (SELECT live FROM redrive.generation)
"""
# Since the cut the live positions began again there: what the log holds at these offsets now was not copied. That a
# topic is another log is known by its id, whatever the clock was.
_NEW_LOG_STARTS: Final[LiteralString] = """
    SELECT l.topic, l.partition, min(l.first_offset) AS first
    FROM redrive.lost_ranges AS l JOIN redrive.generations AS g ON g.generation = $1
    WHERE l.generation = (SELECT live FROM redrive.generation) AND l.noticed_at >= g.created_at
    GROUP BY l.topic, l.partition
"""
_FOLLOW_FROM: Final[LiteralString] = """
    SELECT of_topic, of_partition, next_offset FROM redrive.follow_from($1, $2, $3, $4)
"""
_FOLLOW: Final[LiteralString] = "SELECT redrive.follow($1, $2, $3, $4, $5)"


class NotFollowed(RedriveError):
    """The generation went live, was dropped, or is folded by somebody else: look again."""


class GenerationFold:
    """One generation. The steps of a `LogFold`: its positions move in the transactions of its rows."""

    def __init__(self, ports: RebuildPorts, generation: Generation) -> None:
        self._ports = ports
        self.generation = generation
        self._cut = dict(generation.cut)

    async def before(self, connection: Connection, part: Range) -> None:
        number = self.generation.number
        if not await connection.fetchval(_FOLLOW, number, part.topic, part.partition, part.start, part.end):
            raise NotFollowed

    async def after(self, connection: Connection, part: Range, records: Sequence[Any], outcome: Written) -> None:
        return None

    async def way(self, connection: Connection) -> tuple[int, int]:
        """(offsets behind it, offsets up to the live positions)."""
        row = await connection.fetchrow(_FOLDED_AND_TO_FOLD, self.generation.number)
        return (0, 0) if row is None else (row["done"], row["of"])

    async def is_behind(self, connection: Connection) -> bool:
        return bool(await connection.fetch(_RANGES_TO_FOLD, self.generation.number))

    async def rest(self, connection: Connection, reader: LogReader) -> list[Range]:
        """The ranges still to fold, up to the present live positions. Writes down the offsets that the log has lost."""
        rows = await connection.fetch(_RANGES_TO_FOLD, self.generation.number)
        if not rows:
            return []
        for topic, partition, first in await connection.fetch(_NEW_LOG_STARTS, self.generation.number):
            if (topic, partition) in self._cut:
                self._cut[topic, partition] = min(self._cut[topic, partition], first)
        for row in rows:
            place = (row["topic"], row["partition"])
            if place in self._cut and is_other(self.generation.cut_logs.get(place), row["topic_id"]):
                self._cut[place] = 0
        bounds = {(row["topic"], row["partition"]): row["bound"] for row in rows}
        held = await reader.extents(set(bounds))
        # Where a partition is gone, all of it is.
        starts = {tp: min(held[tp][0], bound) if tp in held else bound for tp, bound in bounds.items()}
        # The live position may be past the log's end for as long as its worker has not noticed.
        ends = {tp: min(held[tp][1], bound) if tp in held else bound for tp, bound in bounds.items()}
        found = await connection.fetch(
            _FOLLOW_FROM,
            self.generation.number,
            [topic for topic, _ in starts],
            [partition for _, partition in starts],
            list(starts.values()),
        )
        ranges = [Range(topic, partition, start, ends[topic, partition]) for topic, partition, start in found]
        return [part for part in ranges if len(part)]

    async def fold(self, reader: BatchReader, ranges: Sequence[Range], advance: Callable[[Range], None]) -> None:
        """Several partitions at once."""
        for only, parts in self._stages(ranges):
            folding = self._ports.foldings(self.generation.schema, only)
            await LogFold(self._ports.pool, folding, self, advance).run(reader, parts)

    async def fold_on(self, connection: Connection, reader: BatchReader, ranges: Sequence[Range]) -> None:
        """In the transaction of that connection, which holds the live positions still."""
        for only, parts in self._stages(ranges):
            folding = self._ports.foldings(self.generation.schema, only)
            async for part, records in reader.read(parts):
                await folding.commit(
                    connection, [folding.fold(record) for record in records], self._first(connection, part), _nothing
                )

    def _first(self, connection: Connection, part: Range) -> Callable[[], Awaitable[None]]:
        async def first() -> None:
            await self.before(connection, part)

        return first

    def _stages(self, ranges: Sequence[Range]) -> list[tuple[frozenset[str] | None, list[Range]]]:
        """Up to the cut only the tables that are folded again; from there on, all. Without those that have no range."""
        only, cut = self.generation.only, self._cut
        if only is None:
            stages: list[tuple[frozenset[str] | None, list[Range]]] = [(None, list(ranges))]
        else:
            at = {(r.topic, r.partition): cut.get((r.topic, r.partition), 0) for r in ranges}
            below = [Range(r.topic, r.partition, r.start, min(r.end, at[r.topic, r.partition])) for r in ranges]
            above = [Range(r.topic, r.partition, max(r.start, at[r.topic, r.partition]), r.end) for r in ranges]
            stages = [(only, [r for r in below if len(r)]), (None, [r for r in above if len(r)])]
        return [stage for stage in stages if stage[1]]


async def _nothing(_: Written) -> None:
    return None


async def catch_up(ports: RebuildPorts, fold: GenerationFold, reader: LogReader, advance: Advance) -> None:
    """Close to the live positions, which move meanwhile. Raises `Unavailable` if it never gets there."""
    async with ports.pool.acquire() as connection:
        reading = live_first(reader, connection)
        done, of = await fold.way(connection)

        def advanced(part: Range) -> None:
            nonlocal done
            done += len(part)
            advance(done, max(of, done))

        for _ in range(PATIENCE):
            ranges = await fold.rest(connection, reader)
            await fold.fold(reading, ranges, advanced)
            if sum(map(len, ranges)) <= CLOSE_OFFSETS:
                return
            done, of = await fold.way(connection)
    raise Unavailable("the generation is not catching up with the live positions; try again when there is less traffic")


async def build(ports: RebuildPorts, generation: Generation, reader: LogReader, advance: Advance) -> GenerationFold:
    """Bring it to the live positions, or wait until whoever is at it has done so.

    Raises `InvalidSelection` once it was dropped.
    """
    fold = GenerationFold(ports, generation)
    async with ports.pool.acquire() as holder:
        while True:
            async with advisory_lock(holder, Lock.FOLD, "try", generation.number) as is_ours:
                if is_ours:
                    await catch_up(ports, fold, reader, advance)
                    return fold
            await find(holder, generation.number)
            done, of = await fold.way(holder)
            advance(done, of)
            if of - done <= CLOSE_OFFSETS:
                return fold
            await asyncio.sleep(LOOK_SECONDS)
