"""Sets of offsets, as ranges of partitions. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from replay.selection.selection import Range
from schemas.topics import TopicPartition


def partition_of(part: Range) -> TopicPartition:
    return (part.topic, part.partition)


def merged(ranges: Iterable[Range], gap: int = 0) -> list[Range]:
    """The same offsets in order, without overlaps; ranges that lie within `gap` offsets become one."""
    found: list[Range] = []
    for part in sorted(ranges, key=lambda r: (r.topic, r.partition, r.start)):
        last = found[-1] if found else None
        if not len(part):
            continue
        if last is not None and partition_of(last) == partition_of(part) and part.start <= last.end + gap:
            found[-1] = Range(part.topic, part.partition, last.start, max(last.end, part.end))
        else:
            found.append(part)
    return found


def common(left: Sequence[Range], right: Sequence[Range]) -> list[Range]:
    """The offsets in both; each is as `merged` makes it."""
    found: list[Range] = []
    others: dict[TopicPartition, list[Range]] = {}
    for part in right:
        others.setdefault(partition_of(part), []).append(part)
    for part in left:
        theirs = others.get(partition_of(part), [])
        at = max(bisect_right(theirs, part.start, key=lambda r: r.start) - 1, 0)
        while at < len(theirs) and theirs[at].start < part.end:
            both = Range(*partition_of(part), max(part.start, theirs[at].start), min(part.end, theirs[at].end))
            if len(both):
                found.append(both)
            at += 1
    return found


def split(
    ranges: Iterable[Range], starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> tuple[list[Range], ...]:
    """The offsets below the starts, those within the bounds, and those at or past the ends."""
    below: list[Range] = []
    within: list[Range] = []
    past: list[Range] = []
    for part in ranges:
        place = partition_of(part)
        start, end = starts.get(place, 0), ends.get(place, 0)
        below.append(Range(*place, part.start, min(part.end, start)))
        within.append(Range(*place, max(part.start, start), min(part.end, end)))
        past.append(Range(*place, max(part.start, end), part.end))
    return tuple([part for part in parts if len(part)] for parts in (below, within, past))


def count(ranges: Iterable[Range]) -> int:
    return sum(len(part) for part in ranges)


def encode(ranges: Iterable[Range]) -> dict[str, list[int]]:
    """For the ledger: `{"topic:partition": [start, end, start, end…]}`."""
    found: dict[str, list[int]] = {}
    for part in ranges:
        found.setdefault(f"{part.topic}:{part.partition}", []).extend((part.start, part.end))
    return found


def decode(document: Mapping[str, Sequence[int]]) -> list[Range]:
    found = []
    for name, bounds in document.items():
        topic, _, partition = name.rpartition(":")
        found += [
            Range(topic, int(partition), start, end) for start, end in zip(bounds[::2], bounds[1::2], strict=True)
        ]
    return found


class Offsets:
    """Tells if an offset is in one of some ranges, however many they are."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self.ranges = merged(ranges)
        self._bounds: dict[TopicPartition, list[int]] = {}
        for part in self.ranges:
            self._bounds.setdefault(partition_of(part), []).extend((part.start, part.end))

    def holds(self, topic: str, partition: int, offset: int) -> bool:
        bounds = self._bounds.get((topic, partition))
        return bounds is not None and bisect_right(bounds, offset) % 2 == 1
