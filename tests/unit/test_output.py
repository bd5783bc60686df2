"""What commands print for people says the same everywhere."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

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
