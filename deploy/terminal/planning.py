"""A plan as people read it, and what a selection means that could not be found."""

from collections.abc import Sequence
from typing import Any

from deploy.terminal.output import out, print_fields, print_table, warn
from replay.plan import Plan
from replay.targets.document import TargetDocument


def print_plan(made: Plan, target: TargetDocument | None) -> None:
    document = made.as_document()
    ranges: dict[tuple[str, int], list[int]] = {}
    for part in made.ranges:
        ranges.setdefault((part.topic, part.partition), []).extend((part.start, part.end - 1))
    print_table(
        ("topic", "partition", "from offset", "to offset", "ranges", "records"),
        [(*place, min(ends), max(ends), len(ends) // 2, made.per_partition[place]) for place, ends in ranges.items()],
    )
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
