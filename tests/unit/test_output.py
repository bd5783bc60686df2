"""What commands print for people says the same everywhere."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from deploy.terminal import output
from deploy.terminal.output import text_of


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
    monkeypatch.setattr(output, "out", Console(highlight=False, soft_wrap=True, width=width))
    location, name = "webhooks.stripe/1/6542345", "evt_" + "x" * 60
    output.print_table(("record", "event", "error"), [(location, name, "a field is missing " * 12)])
    lines = capsys.readouterr().out.splitlines()
    assert any(location in line for line in lines)
    assert any(name in line for line in lines)
    assert " ".join(" ".join(lines).split()).count("missing") == 12
