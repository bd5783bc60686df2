"""A time is RFC 3339 or relative; what could be read in two ways is not a time."""

from datetime import UTC, datetime, timedelta

import pytest

from replay.selection.times import in_ms, moment_of, parse_time


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-21T03:00:00Z", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21t03:00:00.250z", datetime(2026, 11, 21, 3, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-21 05:00:00+02:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21T05:00:00 02:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21T03:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("1750000000", datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_exactly(text: str, said: datetime) -> None:
    assert parse_time(text) == in_ms(said)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("2h ago", timedelta(hours=2)),
        ("90 minutes ago", timedelta(minutes=90)),
        ("1 week ago", timedelta(weeks=1)),
        ("now", timedelta()),
    ],
)
def test_a_relative_time_is_counted_from_now(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    found = moment_of(parse_time(text)) + ago
    assert before - timedelta(milliseconds=1) <= found <= datetime.now(UTC)


def test_a_time_of_yesterday() -> None:
    before = datetime.now(UTC).date()
    found = moment_of(parse_time("yesterday 14:00"))
    assert found.date() + timedelta(days=1) in (before, datetime.now(UTC).date())
    assert f"{found:%H:%M:%S}" == "14:00:00"


@pytest.mark.parametrize(
    "text", ["", "5", "-5", "h", "ago", "2026", "2026-11", "05.11.2026", "12/11/2026", "march", "03:00", "2026-02-30"]
)
def test_what_would_have_to_be_guessed_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="invalid time"):
        parse_time(text)
