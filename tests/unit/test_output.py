"""What commands print for people says the same everywhere."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import TextColumn

from deploy.terminal import output
from deploy.terminal.output import text_of
from deploy.terminal.planning import print_plan
from replay.jobs.plan import Plan
from replay.selection.matcher import Matcher
from replay.selection.selection import Range
from tests.support.selections import selected

ROOT = Path(__file__).parents[2]
BRACKETS = "not declared in [read_models]: [red]x[/] \\[y] [/] :smile: [Errno 111]"
"""Each of these means something to the library that prints."""


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """What is printed next goes to a terminal of that width, without colours."""
    found = Console(highlight=False, markup=False, soft_wrap=True, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(output, "out", found)


def test_a_pipe_gets_each_row_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("2026-11-21 07:57:44Z", "a field is missing " * 12, "x" * 600, "trying it")
    output.print_table(("at", "error", "details", "reason"), [row])
    assert capsys.readouterr().out.splitlines()[-1].split() == " ".join(row).split()


def test_text_is_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(BRACKETS)
    output.say(BRACKETS, "warning", "yellow")
    output.warn(BRACKETS, "redrive:", "bold red")
    output.out.print(BRACKETS)
    output.print_fields({BRACKETS: BRACKETS})
    output.print_table((BRACKETS,), [(BRACKETS,)], BRACKETS)
    out, err = capsys.readouterr()
    # A title, a header and a cell; a name and its value; three lines.
    assert out.count(BRACKETS) == 8
    assert err == f"redrive: {BRACKETS}\n"


OBEYED = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\r",
    "\x08",
    "\x00",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u2028",
]
"""What a terminal does rather than shows: clears, renames its window, writes over the line, turns the direction."""


@pytest.mark.parametrize("sent", OBEYED, ids=ascii)
def test_nothing_that_a_payload_holds_commands_the_terminal(sent: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = f"evt_{sent}1"
    output.say(value)
    output.say(value, value, "bold")
    output.warn(value, "redrive:")
    output.print_fields({"id": value, "ids": [value], "row": {"id": value}})
    output.print_table(("id", "row"), [(value, {"id": [value]})])
    printed = "".join(capsys.readouterr())
    assert not set(sent) & set(printed) - set(map(chr, range(32, 127)))
    assert printed.count("evt_") == 9


def test_a_value_of_several_lines_makes_no_row_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("id",), [("evt_1\nevt_2",)])
    assert capsys.readouterr().out.splitlines()[-1].strip() == r"evt_1\nevt_2"


def test_what_a_progress_bar_says_is_never_markup() -> None:
    with output.progress() as bar:
        bar.add_task(BRACKETS)
        column = bar.columns[0]
        assert isinstance(column, TextColumn)
        assert BRACKETS in str(column.render(bar.tasks[0]))


def test_everything_is_printed_through_the_two_consoles_that_know_no_markup() -> None:
    sources = [*ROOT.glob("deploy/**/*.py"), *ROOT.glob("replay/**/*.py")]
    makers = [path.name for path in sources if re.search(r"\bConsole\(|rich\.markup|from_markup", path.read_text())]
    assert makers == ["output.py"]
    assert [
        path.name for path in sources if re.search(r"\[/\]|\[/?(bold|dim|red|yellow|green)\b", path.read_text())
    ] == []


def test_a_line_wraps_between_words_and_cuts_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_a_terminal(monkeypatch, 40)
    location = "webhooks.a-source-with-a-long-name/1/6542345678901"
    output.say(f"the first of them is {location}, and it is dead", "warning", "yellow", indent="  ")
    output.print_fields({"record": location, "reason": "a field is missing " * 4})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["warning the first of them is", f"  {location},", "  and it is dead"]
    assert f"        {location}" in lines
    assert all(len(line) <= 40 for line in lines if location not in line)


@pytest.mark.parametrize("has_partitions", [False, True])
def test_a_plan_sums_its_partitions_and_tells_them_where_it_is_asked_to(
    has_partitions: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ranges = [Range("webhooks.stripe", partition, start, start + 5) for partition in range(12) for start in (0, 10)]
    plan = Plan(selected(("stripe",), from_ms=0), ranges, Matcher([]))
    plan.per_partition.update({("webhooks.stripe", partition): 7 for partition in range(12)})
    print_plan(plan, None, has_partitions)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["webhooks.stripe", "12", "24", "84"] in rows
    assert (["webhooks.stripe", "3", "0", "14", "2", "7"] in rows) == has_partitions


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (False, "False"),
        (datetime(2026, 11, 21, 19, 0, 5, 123, timezone(timedelta(hours=2))), "2026-11-21 17:00:05Z"),
        (["stripe", "whatsapp"], "stripe, whatsapp"),
        ((1, None), "1, "),
        ({"records": 0, "target": None, "types": []}, '{"records":0,"target":null,"types":[]}'),
        ([["accounts", "cus_1"], None], '[["accounts","cus_1"],null]'),
    ],
)
def test_values_are_shown_as_people_read_them(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("width", [20, 80, 400])
def test_no_id_is_folded_however_narrow_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`webhooks.stripe/1/65` and a 4 on the next line name another record."""
    at_a_terminal(monkeypatch, width)
    location, name = "webhooks.stripe/1/6542345", "evt_" + "x" * 60
    output.print_table(("record", "event", "error"), [(location, name, "a field is missing " * 12)])
    lines = capsys.readouterr().out.splitlines()
    assert any(location in line for line in lines)
    assert any(name in line for line in lines)
    assert " ".join(" ".join(lines).split()).count("missing") == 12
