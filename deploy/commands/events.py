"""`redrive events list | show`: the index of the log, and the record behind an entry; redacted unless asked."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import orjson

from deploy.connections import connected
from deploy.event_loop import run
from deploy.exit_codes import Failed
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import out, print_fields, print_json, print_table, say, visible
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.operations.events import STATUSES, Page, Reveal, Search, UnknownEvent
from replay.operations.events import list_events as read_events
from replay.operations.events import show_event as read_event
from replay.operations.sources import require_sources

_HINT: Final = "redacted; --reveal shows the whole, and is written into the audit"


@click.group(cls=Commands)
def events() -> None:
    """Look events up in the index of the log. Bodies, phone numbers and e-mail addresses are redacted."""


def reveal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`reveal`: what was asked for, or None."""
    command = click.option("--reason", help="Why; goes into the audit with --reveal.")(command)
    flag = "Show the whole, but for credentials. The audit first notes who (REDRIVE_OPERATOR), when, what and why."
    return click.option("--reveal", is_flag=True, help=flag)(command)


def reveal_of(runtime: Runtime, is_asked: bool, reason: str | None) -> Reveal | None:
    if reason is not None and not is_asked:
        raise click.UsageError("--reason goes with --reveal")
    return Reveal(runtime.operator, reason) if is_asked else None


@events.command(
    "list",
    epilog=examples(
        "redrive events list --source stripe --type 'stripe.invoice.*' --from '2h ago'",
        "redrive events list --status dead --json",
    ),
)
@click.option("--source", help="Only this source.")
@click.option("--type", "type_glob", metavar="GLOB", help="The type, with * for any text: 'stripe.invoice.*'.")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--from", "from_ms", type=TIME, help="Arrived at or after.")
@click.option("--to", "to_ms", type=TIME, help="Arrived before.")
@click.option("--q", metavar="TEXT", help="Text in the event id, the type or the error.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@reveal_options
@json_option
@with_runtime
def list_events(runtime: Runtime, as_json: bool, limit: int, reveal: bool, reason: str | None, **search: Any) -> None:
    """Newest first."""
    asked = reveal_of(runtime, reveal, reason)

    async def read() -> Page:
        async with connected(runtime.settings) as connection:
            wanted = Search(**search)
            if wanted.source is not None:
                await require_sources(connection, [wanted.source], runtime.sources)
            return await read_events(connection, wanted, limit, None, asked)

    found = run(read()).events
    if as_json:
        print_json({"redacted": asked is None, "events": found})
        return
    print_table(
        ("received", "source", "type", "event", "status", "repeats"),
        [
            (
                row["received_at"],
                row["source"],
                row["type"],
                row["event_id"],
                row["status"] + (f" ({row['error']})" if row["error"] else ""),
                row["repeats"] or "",
            )
            for row in found
        ],
    )
    if not found:
        say("no event matches")


@events.command(
    "show",
    epilog=examples(
        "redrive events show stripe evt_1", "redrive events show stripe evt_1 --reveal --reason 'ticket 7'"
    ),
)
@click.argument("source")
@click.argument("event_id")
@reveal_options
@json_option
@with_runtime
def show_event(runtime: Runtime, source: str, event_id: str, reveal: bool, reason: str | None, as_json: bool) -> None:
    """One event with all its locations, and the headers and body of the earliest record.

    A body is shown by its shape: the structure, the names, and the values of safe names, such as type and
    status. EVENT_ID may be given as `list` shows it.
    """
    asked = reveal_of(runtime, reveal, reason)

    async def read() -> dict[str, Any]:
        # Imported here: a list asks Postgres alone.
        from replay.log.reader import LogReader

        cluster = runtime.cluster()
        async with connected(runtime.settings) as connection:
            try:
                return await read_event(connection, lambda: LogReader(cluster), source, event_id, asked)
            except UnknownEvent as error:
                raise Failed(str(error)) from error

    print_shown(run(read()), as_json)


def print_shown(found: dict[str, Any], as_json: bool) -> None:
    """Print the result of `show`: its fields, with the headers and the body as `shown_record` gives them."""
    if as_json:
        print_json(found)
        return
    is_redacted, headers, body = (found.pop(name) for name in ("redacted", "headers", "body"))
    locations = found.pop("locations", ())
    print_fields(found)
    if locations:
        say("\nlocations", style="bold")
        print_fields({f"{at['topic']}/{at['partition']}/{at['record_offset']}": at["status"] for at in locations})
    say("\nheaders", style="bold")
    print_fields(headers or {})
    say("\nbody", style="bold")
    _print_body(body)
    if is_redacted:
        say(f"\n{_HINT}", style="dim")


def _print_body(body: dict[str, Any] | None) -> None:
    if body is None:
        say("the log no longer holds the record")
    elif "text" in body:
        out.print(visible(body["text"]))
    elif body.get("format") == "form":
        _print_form(body["shape"])
    elif "shape" in body:
        out.print(visible(orjson.dumps(body["shape"], option=orjson.OPT_INDENT_2).decode()))
    else:
        print_fields(body)


def _print_form(pairs: Sequence[tuple[str, Any]]) -> None:
    for name, value in pairs:
        out.print(visible(f"{name}={value}"))
