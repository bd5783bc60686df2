"""The output of commands: lines, tables and progress for people, one JSON document for machines.

No output is markup: a name in brackets stays as it is. Colour is set beside the text. No output commands the terminal:
values come from payloads, and `visible` escapes control characters.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

_PIPE_WIDTH: Final = 400
"""Wide enough that nothing is cut where nobody looks: ids must survive a pipe."""

_ANY_WIDTH: Final = 100_000

_COMMANDS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""All controls but a new line, what turns the direction of writing, and halves of characters."""

out: Final = Console(
    highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH
)
err: Final = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def visible(text: str) -> str:
    """The text with each character that a terminal would obey as its escape: `\\x1b`, `\\u202e`."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: str, mark: str = "", style: str = "", indent: str = "") -> None:
    """Print a line. `mark` comes before it in `style`; without a mark, the whole line has that style.

    At a terminal it wraps between words, `indent` before each further line. No word is cut: half an id is another id.
    """
    out.print(_line(out, text, mark, style, indent))


def warn(text: str, mark: str, style: str = "yellow") -> None:
    """The same on stderr."""
    err.print(_line(err, text, mark, style, ""))


def _line(console: Console, text: str, mark: str, style: str, indent: str) -> Text:
    width = console.width if console.is_terminal else _ANY_WIDTH
    whole = visible(f"{mark} {text}" if mark else text)
    lines = [
        fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in whole.split("\n")
    ]
    found = Text("\n".join(lines))
    found.stylize(style, 0, len(mark) if mark else None)
    return found


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
        return visible(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
    return visible(str(value)).replace("\n", "\\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """At a terminal a column of text wraps between its words. One of single words (ids, locations) is as wide as the
    longest, however narrow the terminal: half an id is another id. Elsewhere nothing wraps.
    """
    # Colour is the caller's business; a value with brackets in it is text.
    cells = [[cell if isinstance(cell, Text) else Text(text_of(cell)) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=not any(" " in row[place].plain for row in cells), overflow="fold")
    for row in cells:
        table.add_row(*row)
    measured = Measurement.get(out, out.options.update(width=_ANY_WIDTH), table)
    least = measured.minimum if out.is_terminal else measured.maximum
    if least > out.width:
        table.width = least
    out.print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """A line of each: its name and, wrapped between words beside it, its value."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        say(f" {text_of(value)}", f"{name:<{width}}", "bold", " " * (width + 2))


def progress() -> "Progress":
    """A bar on a terminal, nothing elsewhere."""
    # Imported here: most commands show none.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
