"""What the quarantine holds, by time and reason: an old forgery does not hide when an outage began."""

import pytest

from replay.operations.holdings import KEPT_OUT, MINUTE_MS, Count, Holdings, fold_minutes
from replay.operations.quarantine import parse_location
from schemas.errors import InvalidSelection
from schemas.quarantine import DroppedDeliveries

START = 1_800_000_000_000 // (24 * 60 * MINUTE_MS) * 24 * 60 * MINUTE_MS


def holdings(*arrivals: tuple[int, str]) -> Holdings:
    """(minute since the start, reason) of each."""
    found = Holdings()
    for number, (minute, reason) in enumerate(arrivals):
        found.add(
            START + minute * MINUTE_MS + 7,
            reason,
            f"0/{number}",
            is_released=False,
            verifies=False,
            clock_off_seconds=minute if reason == "late" else None,
        )
    return found


def test_few_minutes_are_shown_each_with_their_reasons_and_where_the_first_is() -> None:
    found = holdings((0, "forged"), (2000, "wrong"), (2000, "late"), (2000, "wrong"), (2001, "late"))
    found.drop(DroppedDeliveries("stripe", START + 2001 * MINUTE_MS, 9))
    folded = fold_minutes(found, 20)
    assert (folded.step_minutes, folded.left_out) == (1, 0)
    assert folded.rows == [
        (START, "forged", Count(1, "0/0")),
        (START + 2000 * MINUTE_MS, "late", Count(1, "0/2", (2000, 2000))),
        (START + 2000 * MINUTE_MS, "wrong", Count(2, "0/1")),
        (START + 2001 * MINUTE_MS, KEPT_OUT, Count(9)),
        (START + 2001 * MINUTE_MS, "late", Count(1, "0/4", (2001, 2001))),
    ]


def test_many_minutes_are_folded_into_larger_steps_and_the_old_forgery_stays_apart() -> None:
    found = holdings((0, "wrong"), *((3000 + minute, "wrong") for minute in range(100)))
    folded = fold_minutes(found, 20)
    assert (folded.step_minutes, folded.left_out) == (15, 0)
    assert folded.rows[0] == (START, "wrong", Count(1, "0/0"))
    assert folded.rows[1][0] == START + 3000 * MINUTE_MS, "when the outage began"
    assert sum(count.deliveries for _, _, count in folded.rows) == 101


def test_what_does_not_fit_by_the_day_says_how_much_is_left_out() -> None:
    folded = fold_minutes(holdings(*((day * 24 * 60, "wrong") for day in range(30))), 20)
    assert (folded.step_minutes, len(folded.rows), folded.left_out) == (24 * 60, 20, 10)
    assert folded.rows[-1][2].first == "0/29", "the latest are shown"


def test_offsets_of_a_folded_step_span_those_of_its_minutes() -> None:
    folded = fold_minutes(holdings(*((minute, "late") for minute in range(50))), 2)
    assert [count.clock_off for _, _, count in folded.rows] == [(0, 49)]


@pytest.mark.parametrize("text", ["0/17", "webhooks.quarantine/0/17"])
def test_a_place_is_named_as_the_list_prints_it(text: str) -> None:
    assert parse_location(text) == (0, 17)


@pytest.mark.parametrize("text", ["", "17", "0/x", "webhooks.stripe/0/17", "-1/0", "0/17/1", "0/" + "9" * 19, "²/1"])
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidSelection, match="quarantine list"):
        parse_location(text)
