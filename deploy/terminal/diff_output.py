"""Prints the differences between two sets of facts. Must not compare anything."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from deploy.terminal.output import out, print_table, say
from replay.tables.diff import Diff, ViewDiff

_NO_ROW: Final = "(none)"


def print_diff(diff: Diff) -> None:
    """The read models that differ, what that amounts to, and some of their rows."""
    views = {name: view for name, view in diff.views.items() if view.rows}
    if not views:
        say("no read model differs")
        return
    print_table(
        ("read model", "added", "changed", "removed", "changed columns"),
        [(name, one.added, one.changed, one.removed, _columns(one)) for name, one in views.items()],
    )
    amounts = [line for name, view in views.items() for line in _amounts(name, view)]
    if amounts:
        out.print()
        print_table(("what", "rows or sum", "change"), amounts)
    out.print()
    samples = [line for name, view in views.items() for line in _samples(name, view)]
    print_table(("for example", "key", "column", "before", "after"), samples)


def _columns(view: ViewDiff) -> str:
    return ", ".join(f"{name} {rows}" for name, rows in view.columns.items())


def _amounts(name: str, view: ViewDiff) -> Iterator[tuple[str, str, str]]:
    for one in view.transitions:
        yield f"{name}.{one.column}", str(one.rows), f"{one.was or _NO_ROW} → {one.is_now or _NO_ROW}"
    for total in view.sums:
        yield f"{name}.{total.column}", _signed(total.delta), total.currency or ""


def _signed(value: Decimal) -> str:
    return f"{value.normalize():+f}"


def _samples(name: str, view: ViewDiff) -> Iterator[tuple[Any, ...]]:
    for one in view.samples:
        key = " ".join("-" if value is None else str(value) for value in one["key"].values())
        before, after = one["before"], one["after"]
        if before is None or after is None:
            yield name, key, "added" if before is None else "removed", "", _cells(after or before)
            continue
        for column, value in after.items():
            yield name, key, column, _cell(before[column]), _cell(value)


def _cells(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_cell(value)}" for name, value in row.items() if value is not None)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
