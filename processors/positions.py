"""The positions of a generation in the log, and where to resume reading. Must not fold, or ask Kafka."""

from collections.abc import Mapping
from typing import Final, LiteralString, NamedTuple
from uuid import UUID

from faust.types import TP

from processors import metrics
from processors.fold import arrival_of
from processors.outcome import RawRecord
from processors.partition_state import Extent, Start
from processors.store import Connection

_POSITIONS_OF_GENERATION: Final[LiteralString] = """
    SELECT topic, partition, next_offset, topic_id FROM redrive.positions WHERE generation = $1
"""
# A known id of a log is never replaced by an unknown one: only `NEW_LOG` changes it.
_SET_TOPIC_ID: Final[LiteralString] = """
    UPDATE redrive.positions SET topic_id = $4
    WHERE generation = $1 AND topic = $2 AND partition = $3 AND topic_id IS NULL
"""
# A range is noted once; the position moves past it in the same transaction, so it is never skipped in silence.
LOST_BEFORE: Final[LiteralString] = """
    SELECT topic, partition,
           coalesce(sum(end_offset - first_offset) FILTER (WHERE e.ended_as IS NULL), 0)::bigint AS records
    FROM redrive.lost_ranges LEFT JOIN redrive.ended_losses AS e USING (topic, partition, first_offset, end_offset)
    WHERE generation = $1 GROUP BY topic, partition
"""
# Offsets that are lost again: if all of both losses had been folded, all of their union was. For an older row it is
# unknown.
JOINED_FOLDED_TO: Final[LiteralString] = """CASE
            WHEN EXCLUDED.folded_to < EXCLUDED.end_offset OR lost_ranges.folded_to < lost_ranges.end_offset
            THEN least(lost_ranges.folded_to, EXCLUDED.folded_to)
            WHEN lost_ranges.folded_to IS NOT NULL THEN greatest(lost_ranges.end_offset, EXCLUDED.end_offset)
        END"""
INSERT_LOST_RANGE: Final[LiteralString] = f"""
    WITH lost AS (
        INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset, folded_to)
        VALUES ($1, $2, $3, $4, $5, $4)
        ON CONFLICT (generation, topic, partition, first_offset)
        DO UPDATE SET end_offset = greatest(lost_ranges.end_offset, EXCLUDED.end_offset), noticed_at = now(),
            folded_to = {JOINED_FOLDED_TO}
    )
    INSERT INTO redrive.positions AS p VALUES ($1, $2, $3, $5, $6)
    ON CONFLICT (generation, topic, partition) DO UPDATE SET next_offset = greatest(p.next_offset, EXCLUDED.next_offset)
"""  # noqa: S608 - a constant
# The log ends before the position: it lost its tail. Nobody can tell which offsets are new, so all of it is folded
# again: merges make that harmless, and nothing is skipped.
MOVE_POSITION: Final[LiteralString] = f"""
    WITH moved AS (
        UPDATE redrive.positions SET next_offset = $6
        WHERE generation = $1 AND topic = $2 AND partition = $3 AND next_offset = $5
        RETURNING generation, topic, partition
    )
    INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset, folded_to)
    SELECT generation, topic, partition, $4, $5, $5 FROM moved
    ON CONFLICT (generation, topic, partition, first_offset)
    DO UPDATE SET end_offset = greatest(lost_ranges.end_offset, EXCLUDED.end_offset), noticed_at = now(),
            folded_to = {JOINED_FOLDED_TO}
    RETURNING end_offset
"""  # noqa: S608 - a constant
# The log was restored to an older state and has grown past the position: from $4 on, the records below $5 are others
# than those that were folded. The position may have moved on since.
REFOLD_FROM: Final[LiteralString] = MOVE_POSITION.replace("next_offset = $5", "next_offset >= $5")
# The topic was created again: everything below its positions is gone, also in partitions that the new one does not
# have, and so is everything seen beyond the positions. Nothing happens if another worker did this first.
BEGIN_NEW_LOG: Final[LiteralString] = f"""
    WITH old AS (
        SELECT partition, next_offset FROM redrive.positions
        WHERE generation = $1 AND topic = $2 AND topic_id = $3 ORDER BY partition FOR UPDATE
    ), moved AS (
        UPDATE redrive.positions AS p SET next_offset = 0, topic_id = $4 FROM old
        WHERE generation = $1 AND topic = $2 AND p.partition = old.partition
    ), ends AS (
        SELECT partition, max(at) AS at, max(folded_to) AS folded_to FROM (
            SELECT partition, next_offset AS at, next_offset AS folded_to FROM old
            UNION ALL
            SELECT partition, at, 0 FROM unnest($5::integer[], $6::bigint[]) AS seen (partition, at)
            WHERE EXISTS (SELECT FROM old)
        ) AS every GROUP BY partition
    ), lost AS (
        INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset, folded_to)
        SELECT $1, $2, partition, 0, at, folded_to FROM ends WHERE at > 0
        ON CONFLICT (generation, topic, partition, first_offset)
        DO UPDATE SET end_offset = greatest(lost_ranges.end_offset, EXCLUDED.end_offset), noticed_at = now(),
            folded_to = {JOINED_FOLDED_TO}
    )
    SELECT partition, at FROM ends
"""  # noqa: S608 - a constant

# The index has a row for every event of every record, and an index by arrival.
_UNINDEXED_RECORDS: Final[LiteralString] = """
    SELECT topic, partition
    FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[])
        AS read (topic, partition, record_offset, received_at)
    WHERE NOT EXISTS (
        SELECT FROM redrive.event_index AS folded
        WHERE folded.received_at = read.received_at AND folded.topic = read.topic
            AND folded.partition = read.partition AND folded.record_offset = read.record_offset
    )
"""


class StoredPosition(NamedTuple):
    """Up to where a partition is folded, and of which log; None as the id: not known."""

    next_offset: int
    topic_id: UUID | None = None

    def is_of(self, extent: Extent) -> bool:
        """True if it may be a position of that log."""
        return self.topic_id is None or extent.topic_id is None or self.topic_id == extent.topic_id

    def is_past(self, extent: Extent) -> bool:
        """True if that log ends before it: it lost its tail, if the extent was asked after the position was read."""
        return self.is_of(extent) and self.next_offset > extent.end

    def lag(self, extent: Extent) -> int:
        """How many offsets of that log are not folded."""
        return max(extent.end - max(self.next_offset if self.is_of(extent) else 0, extent.start), 0)


NOTHING_FOLDED: Final = StoredPosition(0)
"""The position of a partition that was never folded."""


async def read_stored(
    connection: Connection, generation: int, seconds: float | None = None
) -> dict[TP, StoredPosition]:
    """The positions of a generation; gives up after `seconds`."""
    rows = await connection.fetch(_POSITIONS_OF_GENERATION, generation, timeout=seconds)
    return {TP(row["topic"], row["partition"]): StoredPosition(row["next_offset"], row["topic_id"]) for row in rows}


async def find_starts(
    connection: Connection, generation: int, extents: Mapping[TP, Extent], is_confirmed: bool, seen: Mapping[TP, Extent]
) -> dict[TP, Start]:
    """Where to read each partition from. Writes down the dropped offsets, and which log it is. `seen` are the previous
    extents: if a topic was created again, they tell how far the old one went.

    Without the partitions whose extent has to be asked again: the position is of another log and the extent was asked
    once (`is_confirmed` is false), or the position has moved since it was read.
    """
    stored = await read_stored(connection, generation)
    starts = {}
    for tp, extent in extents.items():
        offset = await _start(connection, generation, tp, stored.get(tp, NOTHING_FOLDED), extent, is_confirmed, seen)
        if offset is not None:
            starts[tp] = Start(offset, extent.topic_id)
            if tp in stored and stored[tp].topic_id is None and extent.topic_id is not None:
                await connection.execute(_SET_TOPIC_ID, generation, *tp, extent.topic_id)
    for row in await connection.fetch(LOST_BEFORE, generation):
        metrics.LOST_RECORDS.labels(row["topic"], row["partition"]).set(row["records"])
    return starts


async def _start(
    connection: Connection,
    generation: int,
    tp: TP,
    stored: StoredPosition,
    extent: Extent,
    is_confirmed: bool,
    seen: Mapping[TP, Extent],
) -> int | None:
    position = stored.next_offset
    if not stored.is_of(extent):
        # One broker of several may not have heard of the new topic yet.
        if not is_confirmed:
            return None
        ends = {
            one.partition: was.end
            for one, was in seen.items()
            if one.topic == tp.topic and was.topic_id == stored.topic_id
        }
        ids = (stored.topic_id, extent.topic_id)
        moved = await connection.fetch(BEGIN_NEW_LOG, generation, tp.topic, *ids, list(ends), list(ends.values()))
        for partition, end in moved:
            metrics.topic_replaced(tp.topic, partition, end)
        # The positions that were read before are of the old log, for the other partitions too.
        return None
    if position < extent.start:
        await connection.execute(INSERT_LOST_RANGE, generation, *tp, position, extent.start, extent.topic_id)
        metrics.range_lost(*tp, position, extent.start)
        return extent.start
    if position > extent.end:
        # Another worker may have moved on since the log's end was asked.
        if not is_confirmed:
            return None
        if await connection.fetchval(MOVE_POSITION, generation, *tp, extent.end, position, extent.start) is None:
            return None
        metrics.range_lost(*tp, extent.end, position)
        return extent.start
    return position


async def unknown_records(connection: Connection, records: Mapping[TP, RawRecord]) -> set[TP]:
    """The partitions whose record is not the one that was folded at its offset."""
    rows = await connection.fetch(
        _UNINDEXED_RECORDS,
        [tp.topic for tp in records],
        [tp.partition for tp in records],
        [record.offset for record in records.values()],
        [arrival_of(record) for record in records.values()],
    )
    return {TP(row["topic"], row["partition"]) for row in rows}
