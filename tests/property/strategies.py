"""Rows of any fact table, crowded: few keys, few times, few values, so that ties and conflicts are the rule."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from schemas.lattice import Key, Latest, Ranked, Row, Table, Version

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = st.sampled_from(["a", "B", "b", "é", "zoë", "Ω", "🌊", "a\tb", '"q"', "\\", "", "a" * 60])
TIMES = st.sampled_from(
    [EPOCH, EPOCH + timedelta(microseconds=1), EPOCH + timedelta(days=40), datetime(1969, 1, 1, tzinfo=UTC)]
)
VALUES: dict[type, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.sampled_from([0, 1, 2, 10, -1, 2**62]),
    bool: st.booleans(),
    datetime: TIMES,
    Decimal: st.sampled_from([Decimal("0"), Decimal("1.500"), Decimal("129"), Decimal("1E+2")]),
}


def versions() -> st.SearchStrategy[Version]:
    return st.builds(Version, st.none() | TIMES, st.integers(0, 2), st.sampled_from(["e", "e1", "E", "é"]))


@st.composite
def rows(draw: st.DrawFn, table: Table[Any], said: st.SearchStrategy[Version] | None = None) -> Row:
    """One row, from a fact whose columns are each known or not; `said`: of which version."""
    fields: dict[str, Any] = {}
    for column in table.columns:
        if column.is_hidden:
            continue
        if isinstance(column.policy, Key):
            fields[column.name] = draw(st.sampled_from(["k", "K", "é"]))
        elif column.type is bool and column.name == "is_opt_out":
            fields[column.name] = draw(st.booleans())
        elif isinstance(column.policy, Ranked):
            fields[column.name] = draw(st.none() | st.sampled_from(column.policy.values))
        elif isinstance(column.policy, Latest) and column.policy.ranks and column.name == "status":
            fields[column.name] = draw(st.none() | st.sampled_from(column.policy.ranks))
        else:
            fields[column.name] = draw(st.none() | VALUES[column.type])
    _drop_what_hangs_on_no_status(table, fields)
    return table.row(table.fact(version=draw(versions() if said is None else said), **fields))


def _drop_what_hangs_on_no_status(table: Table[Any], fields: dict[str, Any]) -> None:
    """In a ranked group the status carries the rank: without it the group says nothing."""
    for group in table.groups:
        if group.ranks and fields[group.names[0]] is None:
            for name in group.names:
                fields[name] = None
