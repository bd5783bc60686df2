"""A time that a provider writes is read, to the microsecond, or it is none; also the ones that no clock of ours shows."""

from datetime import UTC, datetime

import pytest

from schemas.providers.base import time_of_iso, time_of_seconds
from schemas.providers.times import time_of_mail_text

NEW_YEAR = datetime(2017, 1, 1, tzinfo=UTC)
LAST = datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2016-12-31T23:59:60Z", NEW_YEAR),
        ("2016-12-31T23:59:60.500Z", NEW_YEAR.replace(microsecond=500_000)),
        ("2017-01-01T00:59:60+01:00", NEW_YEAR),
        ("2017-01-01T05:29:60+0530", NEW_YEAR),
        ("2016-12-31t23:59:60z", NEW_YEAR),
        ("20161231T235960Z", NEW_YEAR),
        ("2016-12-31T23:59:60", NEW_YEAR),
        ("2016-12-31T24:00:00Z", NEW_YEAR),
        ("2016-12-31T24:00Z", NEW_YEAR),
        ("2016-12-31T23:59:59z", LAST),
        ("2016-12-31 23:59:59 UTC", LAST),
        ("2016-12-31 23:59:59 GMT", LAST),
        ("2016-12-31T23:59:59,250z", LAST.replace(microsecond=250_000)),
        ("2016-12-31T23:59:59.123456789Z", LAST.replace(microsecond=123_456)),
        ("2016-12-31T23:59:60.123456789z", NEW_YEAR.replace(microsecond=123_456)),
        ("2016-12-31T23:59:59+0000", LAST),
        ("2016-12-31T23:59:59-00:00", LAST),
        ("2017-01-01T00:59:59+01", LAST),
        ("2016-12-31T23:59:59", LAST),
        ("2016-12-31", datetime(2016, 12, 31, tzinfo=UTC)),
    ],
)
def test_a_time_is_read(text: str, said: datetime) -> None:
    found = time_of_iso(text)
    assert (found, found and found.tzinfo) == (said, UTC)


@pytest.mark.parametrize(
    "text",
    ["2016-12-31T23:59:61Z", "2016-12-31T24:00:01Z", "2016-12-31T25:00:00Z", "2016-12-31T23:60:00Z", "2016-02-30T23:59:60Z",
     "9999-12-31T23:59:60Z", "0001-01-01T00:00:60+12:00", "2016-12-31T23:59:60+24:00", "٢٠١٦-12-31T23:59:60Z", "", "soon",
     "2016-12-31T23:59:60Z" + " " * 99, None, 12, ["2016-12-31T23:59:60Z"]],
)  # fmt: skip
def test_what_is_no_time_is_none(text: object) -> None:
    assert time_of_iso(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Sat, 31 Dec 2016 23:59:60 +0000", NEW_YEAR),
        ("Sat, 31 Dec 2016 23:59:59 +0000", LAST),
        ("Sat, 31 Dec 2016 23:59:59 -0000", LAST),
        ("Sun, 01 Jan 2017 00:59:59 +0100", LAST),
        ("31 Dec 2016 23:59:59 GMT", LAST),
        ("Sat, 31 Dec 2016 23:59:61 +0000", None),
        ("Sat, 31 Dec 2016 24:00:00 +0000", None),
        ("Sat, 31 Feb 2016 23:59:59 +0000", None),
        ("Sat, 31 Dec 99999 23:59:59 +0000", None),
        ("", None),
        ("soon", None),
    ],
)
def test_a_time_of_a_voice_callback_is_read(text: str, said: datetime | None) -> None:
    found = time_of_mail_text(text)
    assert (found, found and found.tzinfo) == (said, said and UTC)


def test_a_text_that_is_too_long_for_a_time_is_none() -> None:
    assert time_of_seconds("1" * 65) is None
