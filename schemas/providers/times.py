"""Times as providers give them, read to the microsecond whatever the version of Python. Pure."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CHARACTERS: Final = 64
"""The limit of a time as text. A longer text is not a time, and must not stay in a cache."""

_ODD: Final = re.compile(
    r"(?P<day>\d{4}-?\d\d-?\d\d)[Tt ](?:(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<part>\d*))?)?)"
    r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?\Z",
    re.ASCII,
)


def time_of_seconds(value: Any) -> datetime | None:
    """Unix seconds, as a number or its text."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return None if isinstance(value, str) and len(value) > _MAX_CHARACTERS else _time_of_seconds(value)


@lru_cache(maxsize=4096)
def _time_of_seconds(value: int | str) -> datetime | None:
    """Events come in bursts: many of them share their second."""
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def time_of_milliseconds(value: Any) -> datetime | None:
    """Unix milliseconds, as a number or its text, exactly: a division by a thousand would round."""
    if type(value) is not int:
        if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_CHARACTERS):
            return None
        value = int(value)
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        return None


def time_of_iso(value: Any) -> datetime | None:
    """RFC 3339, and what ISO 8601 allows besides: a second 60, an hour 24, a `z` and a decimal comma. Without a zone it
    is UTC.
    """
    return _time_of_iso(value) if isinstance(value, str) and len(value) <= _MAX_CHARACTERS else None


@lru_cache(maxsize=4096)
def _time_of_iso(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return _odd(text)


def _odd(text: str) -> datetime | None:
    """Parse a time that `fromisoformat` refuses. Second 60 becomes the next second: a Unix clock has no 60."""
    match = _ODD.match(text)
    if match is None:
        return None
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    microsecond = int((match["part"] or "")[:6].ljust(6, "0"))
    is_midnight = hour == 24 and not (minute or second or microsecond)
    if (hour > 23 and not is_midnight) or minute > 59 or second > 60:
        return None
    zone = match["zone"] if match["zone"] and match["zone"][0] in "+-" else "+00"
    try:
        day = datetime.fromisoformat(f"{match['day']}T00:00:00{zone}")
        since = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
        return (day + since).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_of_mail_text(text: str) -> datetime | None:
    """RFC 2822, as in the `Timestamp` of Twilio's voice callbacks; a second 60 is the one that follows."""
    parts = parsedate_tz(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second, *_, offset = parts
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 60):
        return None
    try:
        at = datetime(year, month, day, tzinfo=UTC)
        return at + timedelta(hours=hour, minutes=minute, seconds=second - (offset or 0))
    except (ValueError, OverflowError):
        return None
