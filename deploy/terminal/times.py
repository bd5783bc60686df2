"""Times as flags of commands."""

from datetime import timedelta
from typing import Any

import click

from replay.selection.times import parse_time
from schemas.settings import parse_duration


class Time(click.ParamType):
    """A moment, as milliseconds since the epoch. Without a zone, UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ClockOffset(click.ParamType):
    """The offset of a clock, as seconds: `2h` ahead, `-2h` behind."""

    name = "offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        text = value.strip()
        found = parse_duration(text.lstrip("+-"))
        if not isinstance(found, timedelta) or len(text) - len(text.lstrip("+-")) > 1:
            self.fail(f"invalid clock offset {text[:60]!r}: use 90s, 15m, 2h or 1d; behind: -2h", param, ctx)
        return -found.total_seconds() if text.startswith("-") else found.total_seconds()


TIME = Time()
OFFSET = ClockOffset()
