"""`redrive dead-letters list | show | requeue`: events that no projection could apply, and folding them again."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from deploy.commands.events import print_shown, reveal_of, reveal_options
from deploy.connections import connected
from deploy.event_loop import run
from deploy.exit_codes import EXIT_FAILED, Failed, Reported
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import print_json, print_table, progress, say
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.dead_letters import (
    DeadLetterFilter,
    UnknownDeadLetter,
    list_dead_letters,
    parse_location,
    show_dead_letter,
)
from replay.operations.requeue import Requeue, Requeued
from replay.operations.sources import require_sources
from replay.tables.folding import LiveFolding
from schemas.errors import InvalidSelection


@click.group("dead-letters", cls=Commands)
def dead_letters() -> None:
    """Events that no projection could apply. After a fix they are folded again, as often as it takes."""


def _filters(reason_flag: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorate in reversed(
            (
                click.option("--source", "sources", multiple=True, help="Repeatable."),
                click.option(reason_flag, "dead_reason", metavar="CODE", help="Why it is dead: 'invalid_payload'."),
                click.option("--from", "from_ms", type=TIME, help="Arrived at or after."),
                click.option("--to", "to_ms", type=TIME, help="Arrived before."),
            )
        ):
            command = decorate(command)
        return command

    return decorated


def _wanted(
    sources: tuple[str, ...],
    dead_reason: str | None,
    from_ms: int | None,
    to_ms: int | None,
    locations: tuple[str, ...] = (),
) -> DeadLetterFilter:
    places = tuple(parse_location(text) for text in locations)
    return DeadLetterFilter(sources or None, dead_reason, from_ms, to_ms, places or None)


@dead_letters.command("list", epilog=examples("redrive dead-letters list --source stripe --reason invalid_payload"))
@_filters("--reason")
@click.option("--all", "is_all", is_flag=True, help="Also those that a requeue has revived.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@with_runtime
def list_letters(runtime: Runtime, is_all: bool, limit: int, as_json: bool, **filters: Any) -> None:
    """Those that are open, latest arrival first. Redacted; an error quotes nothing."""
    wanted = _wanted(**filters)

    async def read() -> list[dict[str, Any]]:
        async with connected(runtime.settings) as connection:
            await require_sources(connection, wanted.sources or (), runtime.sources)
            return (await list_dead_letters(connection, wanted, is_all, limit))[0]

    found = run(read())
    if as_json:
        print_json({"dead_letters": found})
        return
    print_table(
        ("received", "location", "event", "type", "status", "error", "requeued"),
        [
            (
                row["received_at"],
                row["location"],
                row["event_id"],
                row["type"],
                row["status"],
                row["error"],
                row["attempts"] or "",
            )
            for row in found
        ],
    )
    if not found:
        say("no dead letter matches")


@dead_letters.command("show", epilog=examples("redrive dead-letters show webhooks.stripe/3/1042"))
@click.argument("location", metavar="TOPIC/PARTITION/OFFSET[/EVENT]")
@reveal_options
@json_option
@with_runtime
def show_letter(runtime: Runtime, location: str, reveal: bool, reason: str | None, as_json: bool) -> None:
    """One of them: why, what was tried, and the headers and body of its record. EVENT is its place in the record."""
    asked, at = reveal_of(runtime, reveal, reason), parse_location(location)

    async def read() -> dict[str, Any]:
        cluster = runtime.cluster()
        async with connected(runtime.settings) as connection:
            try:
                return await show_dead_letter(connection, lambda: LogReader(cluster), at, asked)
            except UnknownDeadLetter as error:
                raise Failed(str(error)) from error

    print_shown(run(read()), as_json)


@dead_letters.command(
    epilog=examples(
        "redrive dead-letters requeue --dead-reason invalid_payload --dry-run",
        "redrive dead-letters requeue webhooks.stripe/3/1042 --reason 'the projection is fixed'",
    )
)
@click.argument("locations", nargs=-1, metavar="[TOPIC/PARTITION/OFFSET[/EVENT]]...")
@_filters("--dead-reason")
@click.option("--all", "is_all", is_flag=True, help="All that are open.")
@click.option("--dry-run", is_flag=True, help="Show the outcome; change nothing.")
@click.option("--reason", help="Why; goes into the audit.")
@json_option
@with_runtime
def requeue(runtime: Runtime, is_all: bool, dry_run: bool, reason: str | None, as_json: bool, **filters: Any) -> None:
    """Fold them again, with the projections of this machine. Exit 1 if one of them is dead still, or gone."""
    wanted = _wanted(**filters)
    if wanted.is_any != is_all:
        raise InvalidSelection("pass locations, --source, --dead-reason or a window; or --all alone")
    done = run(_requeue(runtime, wanted, None if dry_run else Author(runtime.operator, reason)))
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
    else:
        would = "would be revived" if dry_run else "revived"
        say(f"{done.revived} {would}; {done.dead} still fail")
        if done.gone:
            say("nothing can be folded again", f"{done.gone} are gone from the log:", "yellow")
        if done.left_to_live:
            say(f"{done.left_to_live} are above the live positions: the processors will fold them")
    if done.dead or done.gone:
        raise Reported(EXIT_FAILED)


async def _requeue(runtime: Runtime, wanted: DeadLetterFilter, author: Author | None) -> Requeued:
    async with connected(runtime.settings) as connection, LogReader(runtime.cluster()) as reader:
        await require_sources(connection, wanted.sources or (), runtime.sources)
        folding = await LiveFolding.open(connection)
        with progress() as bar:
            task = bar.add_task("folding again", total=None)
            requeueing = Requeue(connection, reader, folding, author)
            return await requeueing.run(wanted, lambda letters: bar.advance(task, letters))
