"""The comments of tables, views and columns, as Postgres keeps them. Pure.

The comment of a fact table's column is that of its view's column, and how it merges, which comes from its declaration.
docs/reference/tables.md has more.
"""

from typing import Any, Final

from schemas.facts import TABLES
from schemas.lattice import DISAGREEMENT, Column, Constant, Key, Latest, Max, Min, Ranked, Table
from schemas.redrive_comments import BOOKKEEPING
from schemas.view_comments import EVERYWHERE, FACTS, VIEWS, Commented

_NOTHING: Final = Commented("", {})


def comments_of(schema: str) -> dict[str, Commented]:
    """The comments of every table and view of ours in a schema: `public`, `redrive`, or a generation's."""
    if schema == "redrive":
        return {name: Commented(text, columns) for name, (text, columns) in BOOKKEEPING.items()}
    if schema == "public":
        views = {name: Commented(one.text, {**EVERYWHERE, **one.columns}) for name, one in VIEWS.items()}
        return {table.name: _as_declared(table) for table in TABLES if table.name not in FACTS | VIEWS} | views
    return {table.name: _facts(table) for table in TABLES}


def _facts(table: Table[Any]) -> Commented:
    view, own = VIEWS.get(table.name), FACTS.get(table.name)
    if view is None and own is None:
        return _as_declared(table)
    view, own = view or _NOTHING, own or _NOTHING
    known = {**EVERYWHERE, **view.columns, **own.columns}
    columns = {
        column.name: f"{known[column.name]} ({_merged(column)})" if column.name in known else _merged(column)
        for column in table.columns
    }
    return Commented(f"Facts of one generation. {own.text or view.text}", columns)


def _as_declared(table: Table[Any]) -> Commented:
    """The comments of a table that has no text of its own, such as a plug-in's."""
    said = (table.fact.__doc__ or "").strip().partition("\n")[0]
    # Python writes a signature where nobody wrote a docstring.
    text = table.name if said.startswith(f"{table.fact.__name__}(") else said
    return Commented(text, {column.name: _merged(column) for column in table.columns})


def _merged(column: Column) -> str:
    """How a column of facts merges."""
    if column.name == DISAGREEMENT:
        return "whether a column that should never change had two values"
    if column.is_hidden:
        group = column.name.removesuffix("_version")
        return f"the version of {group}: time, rank, event id and content, in the order of its bytes"
    match column.policy:
        case Key():
            return "part of the key"
        case Min():
            return "the least value"
        case Max():
            return "the greatest value"
        case Ranked():
            return "the furthest value"
        case Latest(group=group):
            return f"of the latest event that speaks of {group}"
        case Constant():
            return "the same in every event"
