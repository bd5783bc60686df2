"""Globs and texts as patterns of SQL's LIKE, and moments as its parameters. Pure."""

from datetime import datetime, timedelta

from replay.selection.times import EPOCH, moment_of
from schemas.errors import InvalidSelection


def literal(text: str) -> str:
    """Text inside a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def like(glob: str | None) -> str | None:
    """`*` is any text, `?` one character."""
    return None if glob is None else literal(glob).replace("*", "%").replace("?", "_")


def moment(moment_ms: int | None) -> datetime | None:
    """Exactly: by way of a float it would lose its milliseconds."""
    return None if moment_ms is None else moment_of(moment_ms)


def microseconds(at: datetime) -> int:
    """Since the epoch, for a cursor."""
    return (at - EPOCH) // timedelta(microseconds=1)


def moment_of_microseconds(text: str) -> datetime:
    """Raises ValueError or OverflowError."""
    return EPOCH + timedelta(microseconds=int(text))


def require_window(from_ms: int | None, to_ms: int | None) -> None:
    """Raises `InvalidSelection`."""
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise InvalidSelection("the window is empty: from is not before to")
