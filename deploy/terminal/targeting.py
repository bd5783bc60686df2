"""A replay's target as flags, and what became of the records there. Must not send anything.

The target shares `--to` with the window's end: no time begins as a target does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import click

from deploy.terminal.output import out, print_table, warn
from deploy.terminal.times import TIME
from replay.targets.document import MAX_CONCURRENCY, HttpTarget, TargetDocument, TopicTarget, parse_target
from schemas.errors import InvalidSelection

_TARGET: Final = re.compile(r"topic:|https?:", re.IGNORECASE)


class To(NamedTuple):
    """Where the window ends, and where the records go; None: the log's end, the projections."""

    ms: int | None
    target: TargetDocument | None


class _TimeOrTarget(click.ParamType):
    name = "time or target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | TargetDocument:
        if isinstance(value, int | TopicTarget | HttpTarget):
            return value
        return parse_target(value) if _TARGET.match(value) else TIME.convert(value, param, ctx)


def _split(_: click.Context, param: click.Parameter, values: Sequence[int | TargetDocument]) -> To:
    times = [value for value in values if isinstance(value, int)]
    targets = [value for value in values if not isinstance(value, int)]
    if len(times) > 1 or len(targets) > 1:
        raise click.BadParameter("pass at most one time and one target", param=param)
    return To(times[0] if times else None, targets[0] if targets else None)


to_option: Final = click.option(
    "--to",
    multiple=True,
    type=_TimeOrTarget(),
    callback=_split,
    metavar="TIME|TARGET",
    help="A time: arrived before it; default the log's end as of now. http://HOST:PORT/PATH, https://… or topic:NAME:"
    " send the records there, and fold nothing. Pass it twice to give both.",
)


def endpoint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How records are sent to an endpoint."""
    for decorate in (
        click.option("--concurrency", type=click.IntRange(1, MAX_CONCURRENCY), help="Requests at once; default 8."),
        click.option("--resign", is_flag=True, help="Sign again, with the target's secrets of redrive.toml."),
    ):
        command = decorate(command)
    return command


def with_endpoint(target: TargetDocument | None, resign: bool, concurrency: int | None) -> TargetDocument | None:
    """Raises `InvalidSelection`."""
    if not resign and concurrency is None:
        return target
    if not isinstance(target, HttpTarget):
        raise InvalidSelection("--resign and --concurrency are for --to http://… or https://…")
    return replace(target, resign=resign, concurrency=concurrency or target.concurrency)


def warn_of_failures(entry: Mapping[str, Any]) -> None:
    """The records that failed at a target, and the next step. `first_failed` is the first of them."""
    first = entry["first_failed"]
    warn(
        f"{entry['failed']} of {entry['records']} records failed at the target. The first,"
        f" {first['topic']}/{first['partition']}/{first['record_offset']}: {first['error']}",
        "not done:",
        "red",
    )
    warn(
        f"`redrive replay show {entry['id']} --outcomes --failed` lists them. Fix the target, then run the selection"
        " again (it sends delivered records again, too), or --offsets of those that failed",
        "go on:",
    )


def print_outcomes(outcomes: Sequence[Mapping[str, Any]], statuses: Sequence[Mapping[str, Any]]) -> None:
    for columns, rows in (
        (("topic", "partition", "record_offset", "outcome", "status", "attempts", "error"), outcomes),
        (("outcome", "status", "records"), statuses),
    ):
        print_table(columns, [[one[name] for name in columns] for one in rows])
        out.print()
