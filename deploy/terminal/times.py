"""Times as flags of commands."""

from typing import Any

import click

from replay.times import parse_time


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


TIME = Time()
