"""The form of an expectation: fixture -> the facts that it becomes, each with the columns that matter."""

from datetime import UTC, datetime
from typing import Any

Expected = dict[str, list[tuple[str, dict[str, Any]]]]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
