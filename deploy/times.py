"""Times as people write them: RFC 3339, or relative (`2h ago`, `yesterday 14:00`)."""

from datetime import UTC, datetime
from typing import Any

import click
import dateparser


class Time(click.ParamType):
    """A moment, as milliseconds since the epoch. Without a zone, UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment: datetime | None = datetime.fromisoformat(value)
        except ValueError:
            moment = dateparser.parse(
                value, settings={"TIMEZONE": "UTC", "RETURN_AS_TIMEZONE_AWARE": True, "PREFER_DATES_FROM": "past"}
            )
        if moment is None:
            self.fail(f"{value!r} is no time: use 2026-11-21T03:00:00Z, or '2h ago'", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


TIME = Time()
