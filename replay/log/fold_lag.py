"""How far the live tables are behind the log: stored positions against what the log holds. Must not move positions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replay.ports import Log


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """A partition of a topic that is folded. `records` are on the log, at or past its position."""

    topic: str
    partition: int
    next_offset: int
    log_end: int
    records: int


async def fold_lag(reader: Log, positions: Mapping[tuple[str, int], int]) -> list[PartitionLag]:
    """The lag of every partition of the folded topics, whoever folds them. Raises `Unavailable`."""
    found = []
    for place, (start, end) in sorted((await reader.folded_extents()).items()):
        position = positions.get(place, 0)
        found.append(PartitionLag(*place, position, end, max(end - max(position, start), 0)))
    return found


def by_topic(lag: Iterable[PartitionLag]) -> dict[str, int]:
    """Topic -> records that wait; without topics in which none do."""
    found: dict[str, int] = {}
    for one in lag:
        if one.records:
            found[one.topic] = found.get(one.topic, 0) + one.records
    return found
