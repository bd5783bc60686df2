"""A plan as people read it, what a selection means that could not be found, and what a replay that goes on needs."""

import uuid
from collections.abc import Sequence
from typing import Any

from deploy.terminal.output import out, print_fields, print_table, warn
from replay.jobs.plan import Plan
from replay.selection.offsets import partition_of
from replay.selection.selection import Range
from replay.targets.document import TargetDocument
from schemas.topics import TopicPartition


def print_plan(made: Plan, target: TargetDocument | None, has_partitions: bool) -> None:
    """`has_partitions`: also what it reads of each partition."""
    document, partitions = made.as_document(), _partitions(made)
    if has_partitions:
        print_table(("topic", "partition", "from offset", "to offset", "ranges", "records"), partitions)
        out.print()
    print_table(("topic", "partitions", "ranges", "records"), _by_topic(partitions))
    out.print()
    print_table(("type", "records"), sorted(document["types"].items()))
    out.print()
    print_gone(document["gone"])
    warn_of_unknown(made)
    print_fields(
        {
            "records": made.records,
            "first arrival": document["first_arrival"],
            "last arrival": document["last_arrival"],
            "left to the live workers": made.left_to_live,
            "not in the log": made.records_gone,
            "target": target or "the projections",
        }
    )


def _partitions(made: Plan) -> list[tuple[str, int, int, int, int, int]]:
    """(topic, partition, first offset, last offset, ranges, records)"""
    ranges: dict[TopicPartition, list[Range]] = {}
    for part in made.ranges:
        ranges.setdefault(partition_of(part), []).append(part)
    return [
        (
            *place,
            min(part.start for part in parts),
            max(part.end for part in parts) - 1,
            len(parts),
            made.per_partition[place],
        )
        for place, parts in ranges.items()
    ]


def _by_topic(partitions: Sequence[tuple[str, int, int, int, int, int]]) -> list[tuple[str, int, int, int]]:
    """(topic, partitions, ranges, records)"""
    found: dict[str, tuple[int, int, int]] = {}
    for topic, _, _, _, ranges, records in partitions:
        sums = found.get(topic, (0, 0, 0))
        found[topic] = (sums[0] + 1, sums[1] + ranges, sums[2] + records)
    return [(topic, *sums) for topic, sums in found.items()]


def warn_of_unknown(made: Plan) -> None:
    if found := made.unknown_events:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        named = ", ".join(found[:10])
        warn(f"so not found: {named}{more}; name the offsets, or a window", "not in the index,")


def print_gone(gone: Sequence[dict[str, Any]]) -> None:
    if gone:
        columns = ("topic", "partition", "first", "last", "records", "why")
        print_table(columns, [[one[name] for name in columns] for one in gone], "not in the log, so not re-driven")
        out.print()


def say_what_is_left(replay: uuid.UUID, is_paused: bool) -> None:
    """To whoever stops waiting before the end."""
    if is_paused:
        text = "it is paused; `redrive replay resume {0} --reason …` resumes it"
    else:
        text = "it runs on without this command; `redrive replay show {0}` shows its progress"
    warn(f"{text.format(replay)}, `redrive replay cancel {replay} --reason …` ends it", f"replay {replay}:")
