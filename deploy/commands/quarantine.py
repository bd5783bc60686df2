"""`redrive quarantine list | show | release`: deliveries that did not verify, and verifying them again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import click

from deploy.commands.events import print_shown, reveal_of, reveal_options
from deploy.connections import connected
from deploy.event_loop import run
from deploy.exit_codes import Failed
from deploy.operator_log import appending
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import out, print_json, print_table, progress, say
from deploy.terminal.times import OFFSET, TIME
from deploy.wiring import Runtime
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.holdings import Holdings, fold_minutes
from replay.operations.quarantine import QuarantineReader, UnknownDelivery, of_source, parse_location
from replay.operations.release import AuthorizedRelease, Release, ReleaseSelection
from replay.operations.release import release as release_wanted
from replay.selection.selection import require_known
from replay.selection.times import moment_of

_ROWS: Final = 20
_STEPS: Final = {1: "minute", 5: "5 minutes", 15: "15 minutes", 60: "hour", 360: "6 hours", 1440: "day"}


@click.group(cls=Commands)
def quarantine() -> None:
    """Deliveries that did not verify: after a wrong secret or a wrong clock is set right, none of them is lost."""


@asynccontextmanager
async def _opened(runtime: Runtime) -> AsyncIterator[QuarantineReader]:
    async with connected(runtime.settings) as connection, LogReader(runtime.cluster()) as reader:
        yield QuarantineReader(reader, connection, runtime.sources, runtime.settings.public_url)


@quarantine.command("list", epilog=examples("redrive quarantine list --source stripe --from '2h ago'"))
@click.option("--source", help="Only this source.")
@click.option("--from", "from_ms", type=TIME, help="Arrived at or after.")
@click.option("--to", "to_ms", type=TIME, help="Arrived before.")
@json_option
@with_runtime
def list_quarantine(
    runtime: Runtime, source: str | None, from_ms: int | None, to_ms: int | None, as_json: bool
) -> None:
    """The held and the kept-out deliveries, by source; and of each by time and reason, --json by the minute.

    Shows how many would verify with the current secrets, released ones included, and where the first of each time and
    reason is, for `show`.
    """

    async def read() -> dict[str, Holdings]:
        async with _opened(runtime) as opened:
            with progress() as bar:
                task = bar.add_task("reading the quarantine", total=None)
                return await opened.holdings(lambda offsets: bar.advance(task, offsets), from_ms, to_ms)

    found = dict(sorted(run(read()).items()))
    if source is not None:
        found = of_source(found, source, runtime.sources)
    if as_json:
        print_json({"sources": {name: one.as_document() for name, one in found.items()}})
        return
    print_table(
        ("source", "held", "released", "verify now", "first arrival", "last arrival", "kept out"),
        [
            (
                name,
                one.held,
                one.released,
                one.verify_now,
                _moment(one.first_ms),
                _moment(one.last_ms),
                sum(one.dropped.values()) or "",
            )
            for name, one in found.items()
        ],
    )
    for name, one in found.items():
        _print_minutes(name, one)


def _moment(moment_ms: int | None) -> Any:
    return None if moment_ms is None else moment_of(moment_ms)


def _print_minutes(source: str, holdings: Holdings) -> None:
    folded = fold_minutes(holdings, _ROWS)
    out.print()
    print_table(
        ("from", "reason", "deliveries", "first", "clock off by"),
        [
            (_moment(start), reason, count.deliveries, count.first, _offset(count.clock_off))
            for start, reason, count in folded.rows
        ],
        title=f"{source}, by the {_STEPS[folded.step_minutes]}",
    )
    if folded.left_out:
        say(f"and {folded.left_out} earlier rows; --from and --to narrow it, --json has all")


def _offset(seconds: tuple[int, int] | None) -> str:
    if seconds is None:
        return ""
    least, most = seconds
    return f"{least}s" if least == most else f"{least}s to {most}s"


@quarantine.command(
    "show",
    epilog=examples("redrive quarantine show 0/42", "redrive quarantine show 0/42 --reveal --reason 'ticket 7'"),
)
@click.argument("location", metavar="PARTITION/OFFSET")
@reveal_options
@json_option
@with_runtime
def show_delivery(runtime: Runtime, location: str, reveal: bool, reason: str | None, as_json: bool) -> None:
    """One delivery, as `list` names it: why it was refused, whether it verifies now, its headers and its body.

    Redacted like an event. The place may begin with the topic's name.
    """
    asked, place = reveal_of(runtime, reveal, reason), parse_location(location)

    async def read() -> dict[str, Any]:
        async with _opened(runtime) as opened:
            try:
                return await opened.show(*place, asked)
            except UnknownDelivery as error:
                raise Failed(str(error)) from error

    print_shown(run(read()), as_json)


@quarantine.command(
    "release",
    epilog=examples(
        "redrive quarantine release --source stripe --dry-run",
        "redrive quarantine release --source stripe --reason 'the secret was wrong'",
        "redrive quarantine release --source stripe --clock-was-off 2h --reason 'the clock was wrong'",
    ),
)
@click.option("--source", "sources", multiple=True, required=True, help="Repeatable.")
@click.option(
    "--clock-was-off",
    "clock_off_seconds",
    type=OFFSET,
    default=0.0,
    help="How far our clock was ahead (2h; behind: -2h): also releases what was refused for that. Needs --reason.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be released; change nothing.")
@click.option("--reason", help="Why; goes into the audit.")
@json_option
@with_runtime
def release(
    runtime: Runtime,
    sources: tuple[str, ...],
    clock_off_seconds: float,
    dry_run: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Verify again with today's secrets, and append what passes, with its original arrival."""
    require_known(sources, runtime.sources)
    author = None if dry_run else Author(runtime.operator, reason)
    done = run(_release(runtime, ReleaseSelection(sources, clock_off_seconds), author))
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
        return
    verb = "would be released" if dry_run else "released"
    say(f"{done.released} {verb}, {done.duplicates} further copies of them")
    say(f"{done.still_failing} still fail and stay out; {done.released_before} had been released before")
    if done.untimely:
        say(
            f"{done.untimely} of those that fail are signed right, at another time than their arrival: copies of old"
            " deliveries, unless our clock was wrong; then see --clock-was-off"
        )


async def _release(runtime: Runtime, wanted: ReleaseSelection, author: Author | None) -> Release:
    async with _opened(runtime) as opened:
        with progress() as bar:
            task = bar.add_task("verifying again", total=None)

            def advance(offsets: int) -> None:
                bar.advance(task, offsets)

            if author is None:
                return await release_wanted(opened, wanted, None, advance)
            async with appending(runtime.cluster()) as append:
                return await release_wanted(opened, wanted, AuthorizedRelease(author, append), advance)
