"""Clocks that are compared: what a question took is no offset, and what is off is said."""

import pytest
from click import BadParameter

from deploy.clock_check import clock_findings
from deploy.terminal.times import OFFSET
from schemas.clocks import ahead_seconds


@pytest.mark.parametrize(
    ("asked", "theirs", "answered", "ahead"),
    [
        (100.0, 100.0, 100.0, 0.0),
        (100.0, 103.0, 107.0, 0.0),
        (100.0, 90.0, 107.0, 10.0),
        (100.0, 120.0, 107.0, -13.0),
    ],
)
def test_an_offset_is_what_the_time_of_the_question_does_not_account_for(
    asked: float, theirs: float, answered: float, ahead: float
) -> None:
    assert ahead_seconds(asked, theirs, answered) == ahead


@pytest.mark.parametrize(
    ("ahead", "warning", "fault"),
    [
        (0.0, None, None),
        (5.0, None, None),
        (-4.0, None, None),
        (6.0, "6 s apart: ours is ahead", None),
        (-300.0, "300 s apart: ours is behind", None),
        (-400.0, None, "400 s apart: ours is behind"),
    ],
)
def test_a_clock_that_is_seconds_off_is_warned_of_and_beyond_the_tolerance_a_fault(
    ahead: float, warning: str | None, fault: str | None
) -> None:
    for found, said in zip(clock_findings(ahead), (warning, fault), strict=True):
        assert [said in text for text in found if said] == ([True] if said else [])
        assert bool(found) is bool(said)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200.0), ("+90s", 90.0), ("-1d", -86400.0), (" 15m ", 900.0), ("0s", 0.0)]
)
def test_an_offset_has_a_sign_and_a_unit(text: str, seconds: float) -> None:
    assert OFFSET.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "--2h", "+-2h", "2h ago", "PT2H", "nan"])
def test_what_is_no_offset_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadParameter, match="-2h"):
        OFFSET.convert(text, None, None)
