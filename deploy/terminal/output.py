"""What commands print: tables and progress for people, one JSON document for machines."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 400
"""Wide enough that nothing is cut where nobody looks: ids must survive a pipe."""

_ANY_WIDTH: Final = 100_000

out: Final = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err: Final = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    print(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


def text_of(value: Any) -> str:
    """As people read it: times to the second, in UTC; lists of words without brackets; what is deeper, as JSON."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, (list, tuple)) and not any(isinstance(each, (Mapping, list, tuple)) for each in value):
        return ", ".join(map(text_of, value))
    if isinstance(value, (Mapping, list, tuple)):
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A column of text wraps between its words. One of single words (ids, locations) is as wide as the longest, however
    narrow the terminal: half an id is another id.
    """
    # Colour is the caller's business; a value with brackets in it is text.
    cells = [[cell if isinstance(cell, Text) else Text(text_of(cell)) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=not any(" " in row[place].plain for row in cells), overflow="fold")
    for row in cells:
        table.add_row(*row)
    least = Measurement.get(out, out.options.update(width=_ANY_WIDTH), table).minimum
    if least > out.width:
        table.width = least
    out.print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        out.print(f"[bold]{name:<{width}}[/]  {escape(text_of(value))}")


def progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
