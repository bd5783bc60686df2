"""The offsets below some positions that the log holds, and the ranges that it lost. Must not say how a loss ended."""

from collections.abc import Mapping
from dataclasses import dataclass

from replay.ports import Log
from replay.selection.selection import Range


@dataclass(frozen=True, slots=True)
class HeldLog:
    """`lost` are ranges that the log does not hold, with the words for it; `reasons`, why the rest can't be known."""

    ranges: list[Range]
    lost: dict[Range, str]
    reasons: list[str]


async def held_below(reader: Log, positions: Mapping[tuple[str, int], int]) -> HeldLog:
    """The part of [0, position) of each partition that the log holds. Raises `Unavailable`."""
    held = await reader.extents(set(positions))
    found = HeldLog([], {}, [])
    for (topic, partition), position in sorted(positions.items()):
        place = f"{topic}/{partition}"
        if (topic, partition) not in held:
            text = f"{place} is not in the log any more, and was folded up to offset {position}"
            found.lost[Range(topic, partition, 0, position)] = text
            continue
        start, end = held[topic, partition]
        if start > 0:
            text = f"{place}: the log starts at offset {start}; what was before is gone"
            found.lost[Range(topic, partition, 0, start)] = text
        if end < position:
            found.reasons.append(f"{place} was folded up to offset {position}, and the log ends at {end}")
        part = Range(topic, partition, start, min(position, end))
        if len(part):
            found.ranges.append(part)
    return found
