"""Times as people write them: RFC 3339, or relative (`2h ago`, `yesterday 14:00`)."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LOST_PLUS: Final = re.compile(r"(\d\d:\d\d(?::\d\d(?:\.\d+)?)?) (\d\d:?\d\d)\Z")
"""In the query of a URL an unescaped `+` of a time zone is a space."""

_RELATIVE: Final[Any] = {
    "TIMEZONE": "UTC",
    "RETURN_AS_TIMEZONE_AWARE": True,
    "PREFER_DATES_FROM": "past",
    # No calendar dates: of `05.11.2026` it would make the 11th of May, and of `5` the 5th of some month.
    "PARSERS": ["timestamp", "relative-time"],
}


def parse_time(text: str) -> int:
    """A moment, as milliseconds since the epoch; without a zone, UTC. Raises ValueError."""
    text = _LOST_PLUS.sub(r"\1+\2", text.strip())
    moment: datetime | None
    try:
        # RFC 3339 allows small letters.
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        # Imported here: it takes longer than most commands, and most times are RFC 3339.
        import dateparser

        moment = dateparser.parse(text, settings=_RELATIVE)
    if moment is None:
        raise ValueError(f"invalid time {text[:60]!r}: use 2026-11-21T03:00:00Z or '2h ago'")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    found = in_ms(moment)
    if not FIRST_MS <= found <= LAST_MS:
        raise ValueError(f"time out of range: {text[:60]!r}; expected years 1 to 9999")
    return found


def in_ms(moment: datetime) -> int:
    """Since the epoch. Exactly: as a float, 4.095 s would be 4094 ms."""
    return (moment - EPOCH) // _MILLISECOND


FIRST_MS: Final = in_ms(datetime.min.replace(tzinfo=UTC))
LAST_MS: Final = in_ms(datetime.max.replace(tzinfo=UTC))
"""Times before or after have no date in UTC."""


def moment_of(moment_ms: int) -> datetime:
    """The nearest that has a date: the timestamp of a record can be any number."""
    return EPOCH + min(max(moment_ms, FIRST_MS), LAST_MS) * _MILLISECOND
