"""The check of records on the log that are not folded yet. Must not move positions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from deploy.connections import connected
from deploy.topic_ids import TopicIds
from replay.log.fold_lag import PartitionLag, fold_lag
from replay.log.reader import LogReader
from replay.ports import Connection
from replay.selection.selection import Range
from schemas.cluster import Cluster
from schemas.errors import UnreadableRecord
from schemas.settings import Settings

STILL_SECONDS: Final = 3.0
"""A partition with records to fold whose position does not move for so long is called still."""

_LOOK_SECONDS: Final = 0.25
_LISTED: Final = 10
_LIVE_POSITIONS_AND_LOGS: Final[LiteralString] = """
    SELECT topic, partition, next_offset, topic_id FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation)
"""


@dataclass(frozen=True, slots=True)
class FoldState:
    """How far the tables are behind the log, by partition; `still` are those with records to fold that do not move."""

    as_of: datetime
    partitions: list[PartitionLag]
    still: list[PartitionLag]
    unreadable: Mapping[str, str]
    """Location -> why the record at which a still partition is can't be read."""

    @property
    def records(self) -> int:
        return sum(one.records for one in self.partitions)

    @property
    def warnings(self) -> list[str]:
        if not self.still:
            return []
        waiting = sum(one.records for one in self.still)
        return [
            f"{waiting:,} records wait, and no position moves in {_named(self.still)}: do the processors run? Is the"
            " source paused? (`redrive sources list`)",
            *(
                f"{location} can't be read, and its partition rests there: {why}; how to get past it is in"
                " docs/runbooks/dead-letters.md"
                for location, why in self.unreadable.items()
            ),
        ]

    @property
    def conclusion(self) -> str:
        if not self.records:
            return "every record on the log is folded"
        return f"{self.records:,} {'record is' if self.records == 1 else 'records are'} on the log and not folded yet"

    def as_document(self) -> dict[str, Any]:
        still = {(one.topic, one.partition) for one in self.still}
        partitions = [{**asdict(one), "still": (one.topic, one.partition) in still} for one in self.partitions]
        found = {"as_of": self.as_of, "records": self.records, "partitions": partitions}
        return {**found, "unreadable": dict(self.unreadable)}

    def __str__(self) -> str:
        waiting = [one for one in self.partitions if one.records]
        where = f": {_named(waiting)}" if waiting else ""
        return f"{self.conclusion}, as of {self.as_of:%Y-%m-%d %H:%M:%S}Z{where}"


def _named(partitions: list[PartitionLag]) -> str:
    named = ", ".join(f"{one.topic}/{one.partition} ({one.records:,})" for one in partitions[:_LISTED])
    return named + (f" and {len(partitions) - _LISTED} more partitions" if len(partitions) > _LISTED else "")


async def fold_state(settings: Settings, cluster: Cluster) -> FoldState:
    """As of now; then checks again while a partition with records to fold makes no progress, up to a limit."""
    async with connected(settings) as connection, LogReader(cluster) as reader:
        logs = await _logs(cluster, sorted({topic for topic, _ in await _positions(connection, {})}))
        # Before the log's ends: what arrives in between is not folded.
        partitions = await fold_lag(reader, await _positions(connection, logs))
        as_of, until = datetime.now(UTC), time.monotonic() + STILL_SECONDS
        still = [one for one in partitions if one.records]
        while still and time.monotonic() < until:
            await asyncio.sleep(_LOOK_SECONDS)
            positions = await _positions(connection, logs)
            still = [one for one in still if positions.get((one.topic, one.partition), 0) <= one.next_offset]
    return FoldState(as_of, partitions, still, await unreadable_records(cluster, still[:_LISTED]))


async def unreadable_records(cluster: Cluster, still: Sequence[PartitionLag]) -> Mapping[str, str]:
    """Location -> why, of those at which a partition is still. Raises `LogUnavailable`."""
    asked = [Range(one.topic, one.partition, one.next_offset, one.next_offset + 1) for one in still]
    try:
        async with LogReader(cluster) as reader:
            # Records that the log lost can't be read either; they become a lost range with the next fold.
            held, _ = await reader.held(asked)
            async for _ in reader.read(held):
                pass
    except UnreadableRecord as error:
        return error.places
    return {}


async def _logs(cluster: Cluster, topics: Sequence[str]) -> Mapping[str, UUID | None]:
    """Kafka's ids of the topics that are there. Raises `Unavailable`."""
    ids = TopicIds(cluster)
    try:
        return await ids(topics)
    finally:
        await ids.stop()


async def _positions(connection: Connection, logs: Mapping[str, UUID | None]) -> Mapping[tuple[str, int], int]:
    """Without those of another log than the present one: a topic that was created again has no folded records yet."""
    rows = await connection.fetch(_LIVE_POSITIONS_AND_LOGS)
    return {
        (row["topic"], row["partition"]): row["next_offset"]
        for row in rows
        if None in (row["topic_id"], logs.get(row["topic"])) or row["topic_id"] == logs[row["topic"]]
    }
