"""`redrive events list | show`: the index of the log, and the record behind an entry."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import click

from deploy.cli import Failed, json_option, run, with_runtime
from deploy.output import out, print_fields, print_json, print_table
from deploy.times import TIME
from deploy.wiring import Runtime, connect
from replay.selection import Range
from replay.window import LogReader

_LIST: Final[LiteralString] = """
    SELECT source, event_id, provider, type, occurred_at, received_at, topic, partition, record_offset, status, error,
           repeats, conflicts
    FROM public.webhook_events
    WHERE ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR type LIKE $2) AND ($3::text IS NULL OR status = $3)
      AND ($4::timestamptz IS NULL OR received_at >= $4) AND ($5::timestamptz IS NULL OR received_at < $5)
    ORDER BY received_at DESC, source, event_id LIMIT $6
"""
_SHOW: Final[LiteralString] = "SELECT * FROM public.webhook_events WHERE source = $1 AND event_id = $2"
_LOCATIONS: Final[LiteralString] = """
    SELECT topic, partition, record_offset, received_at, status, error FROM redrive.event_index
    WHERE source = $1 AND event_id = $2 ORDER BY received_at, topic, partition, record_offset
"""


@click.group()
def events() -> None:
    """Look events up in the index of the log."""


@events.command("list")
@click.option("--source", help="Of one source.")
@click.option("--type", "type_glob", metavar="GLOB", help="Type, with * for any text: 'stripe.invoice.*'.")
@click.option("--status", type=click.Choice(["applied", "ignored", "dead"]))
@click.option("--from", "from_ms", type=TIME, help="Arrived at or after.")
@click.option("--to", "to_ms", type=TIME, help="Arrived before.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@with_runtime
def list_events(runtime: Runtime, as_json: bool, limit: int, type_glob: str | None, **filters: Any) -> None:
    """Newest first."""

    async def read() -> list[dict[str, Any]]:
        connection = await connect(runtime.settings)
        try:
            rows = await connection.fetch(
                _LIST,
                filters["source"],
                _like(type_glob),
                filters["status"],
                _moment(filters["from_ms"]),
                _moment(filters["to_ms"]),
                limit,
            )
            return [dict(row) for row in rows]
        finally:
            await connection.close()

    found = run(read())
    if as_json:
        print_json({"events": found})
        return
    print_table(
        ("received", "source", "type", "event", "status", "repeats"),
        [
            (
                f"{row['received_at']:%Y-%m-%d %H:%M:%S}",
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
        out.print("no event matches")


@events.command("show")
@click.argument("source")
@click.argument("event_id")
@json_option
@with_runtime
def show_event(runtime: Runtime, source: str, event_id: str, as_json: bool) -> None:
    """One event with all its locations, and the headers and body of the earliest record."""

    async def read() -> dict[str, Any]:
        connection = await connect(runtime.settings)
        try:
            row = await connection.fetchrow(_SHOW, source, event_id)
            if row is None:
                raise Failed(f"source {source!r} has no event {event_id!r} in the index")
            locations = [dict(found) for found in await connection.fetch(_LOCATIONS, source, event_id)]
        finally:
            await connection.close()
        offset = row["record_offset"]
        part = Range(row["topic"], row["partition"], offset, offset + 1)
        async with LogReader(runtime.settings.require_kafka()) as reader:
            records = [record async for _, batch in reader.read([part]) for record in batch]
        event = {**row, "locations": locations}
        if records:
            event["headers"] = {name: value.decode("utf-8", "replace") for name, value in records[0].headers}
            event["body"] = (records[0].value or b"").decode("utf-8", "replace")
        return event

    event = run(read())
    if as_json:
        print_json(event)
        return
    body, headers, locations = event.pop("body", ""), event.pop("headers", {}), event.pop("locations")
    print_fields(event)
    out.print("\n[bold]locations[/]")
    print_fields({f"{at['topic']}/{at['partition']}/{at['record_offset']}": at["status"] for at in locations})
    out.print("\n[bold]headers[/]")
    print_fields(headers)
    out.print("\n[bold]body[/]")
    out.print(body, markup=False)


def _like(glob: str | None) -> str | None:
    if glob is None:
        return None
    return glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")


def _moment(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else datetime.fromtimestamp(moment_ms / 1000, UTC)


COMMANDS: Final[Sequence[click.Command]] = (events,)
