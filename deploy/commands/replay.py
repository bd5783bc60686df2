"""`redrive replay plan | run | list | show`."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from deploy.cli import Failed, json_option, run, with_runtime
from deploy.folding import LiveFolding
from deploy.foreseeing import foresee, print_foreseen
from deploy.output import out, print_fields, print_json, print_table, progress
from deploy.times import TIME
from deploy.wiring import Runtime, connect
from replay.dry_run import DryRun
from replay.ledger import Ledger, list_replays, show_replay
from replay.plan import Plan, make_plan
from replay.runner import RateLimit, Runner
from replay.selection import Selection, parse_offsets
from replay.window import LogReader
from schemas import corrections
from schemas.errors import InvalidSelection


@click.group()
def replay() -> None:
    """Re-drive a selection of the log: it adds what is missing, and changes nothing that was right."""


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same selection for a plan and for a run."""
    for decorate in reversed(
        (
            click.option(
                "--source", "sources", multiple=True, help="Repeatable; default every configured one, and 'operator'."
            ),
            click.option("--from", "from_ms", type=TIME, help="Arrived at or after: RFC 3339 or '2h ago'."),
            click.option("--to", "to_ms", type=TIME, help="Arrived before; default the log's end as of now."),
            click.option("--type", "type_glob", metavar="GLOB", help="Event types: 'stripe.invoice.*'."),
            click.option("--event-id", help="One event, wherever it is on the log."),
            click.option("--offsets", multiple=True, metavar="TOPIC:PARTITION:A-B", help="Offsets, both ends in."),
        )
    ):
        command = decorate(command)
    return command


def _selection(runtime: Runtime, sources: tuple[str, ...], offsets: tuple[str, ...], **rest: Any) -> Selection:
    # Corrections are part of the log.
    known = (*runtime.sources, corrections.SOURCE)
    if unknown := sorted(set(sources) - set(known)):
        raise InvalidSelection(f"no source is called {', '.join(unknown)}; there are: {', '.join(known)}")
    return Selection(sources=sources or known, offsets=tuple(parse_offsets(text) for text in offsets), **rest)


@replay.command()
@selection_options
@click.option("--diff", "with_diff", is_flag=True, help="Fold it apart, and say what a run would change in the tables.")
@json_option
@with_runtime
def plan(runtime: Runtime, with_diff: bool, as_json: bool, **selection: Any) -> None:
    """Say what a run would re-drive; changes nothing."""
    wanted = _selection(runtime, **selection)

    async def work() -> tuple[Plan, DryRun | None]:
        connection = await connect(runtime.settings)
        try:
            async with LogReader(runtime.cluster()) as reader:
                made = await _planned(reader, connection, wanted)
                return made, await foresee(reader, connection, made) if with_diff else None
        finally:
            await connection.close()

    made, foreseen = run(work())
    if as_json:
        print_json(made.as_document() | ({"diff": foreseen.as_document()} if foreseen else {}))
        return
    _print_plan(made)
    if foreseen:
        print_foreseen(foreseen)


async def _planned(reader: LogReader, connection: Any, selection: Selection) -> Plan:
    folding = await LiveFolding.open(connection)
    with progress() as bar:
        task = bar.add_task("reading the window", total=None)
        return await make_plan(
            reader, connection, selection, folding.fold, lambda done, of: bar.update(task, completed=done, total=of)
        )


def _print_plan(made: Plan) -> None:
    document = made.as_document()
    print_table(
        ("topic", "partition", "from offset", "to offset", "records"),
        [(r["topic"], r["partition"], r["start"], r["end"] - 1, r["records"]) for r in document["ranges"]],
    )
    out.print()
    print_table(("type", "records"), sorted(document["types"].items()))
    out.print()
    print_fields(
        {
            "records": made.records,
            "first arrival": document["first_arrival"],
            "last arrival": document["last_arrival"],
            "left to the live workers": made.left_to_live,
        }
    )


@replay.command("run")
@selection_options
@click.option("--reason", required=True, help="Why; goes into the ledger and the audit.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many records a second.")
@json_option
@with_runtime
def run_replay(runtime: Runtime, reason: str, rate: float | None, as_json: bool, **selection: Any) -> None:
    """Re-drive the selection now, next to live traffic; waits for the end."""
    wanted = _selection(runtime, **selection)
    entry = run(_run(runtime, wanted, reason, rate))
    if as_json:
        print_json(entry)
    else:
        _print_entry(entry)


async def _run(runtime: Runtime, selection: Selection, reason: str, rate: float | None) -> dict[str, Any]:
    connection = await connect(runtime.settings)
    try:
        async with LogReader(runtime.cluster()) as reader:
            made = await _planned(reader, connection, selection)
        folding = await LiveFolding.open(connection)
        ledger = Ledger(connection)
        await ledger.create(made, folding.generation, runtime.operator, reason)
        runner = Runner(connection, folding, ledger, RateLimit(rate))
        async with LogReader(runtime.cluster()) as reader:
            with progress() as bar:
                task = bar.add_task("re-driving", total=made.offsets)
                await runner.run(reader, made, lambda offsets: bar.advance(task, offsets))
        return await show_replay(connection, ledger.id) or {}
    finally:
        await connection.close()


def _print_entry(entry: dict[str, Any]) -> None:
    shown = {name: value for name, value in entry.items() if name != "selection"}
    print_fields({**shown, **{f"selection {name}": value for name, value in entry["selection"].items() if value}})


@replay.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@with_runtime
def list_runs(runtime: Runtime, limit: int, as_json: bool) -> None:
    """The ledger, newest first."""

    async def read() -> list[dict[str, Any]]:
        connection = await connect(runtime.settings)
        try:
            return await list_replays(connection, limit)
        finally:
            await connection.close()

    entries = run(read())
    if as_json:
        print_json({"replays": entries})
        return
    print_table(
        ("id", "state", "records", "rows changed", "dead", "by", "reason", "created"),
        [
            (
                entry["id"],
                entry["state"],
                entry["records"],
                entry["rows_changed"],
                entry["dead"],
                entry["operator"],
                entry["reason"],
                f"{entry['created_at']:%Y-%m-%d %H:%M:%S}",
            )
            for entry in entries
        ],
    )


@replay.command("show")
@click.argument("replay_id", type=click.UUID)
@json_option
@with_runtime
def show_run(runtime: Runtime, replay_id: uuid.UUID, as_json: bool) -> None:
    """One entry of the ledger."""

    async def read() -> dict[str, Any] | None:
        connection = await connect(runtime.settings)
        try:
            return await show_replay(connection, replay_id)
        finally:
            await connection.close()

    entry = run(read())
    if entry is None:
        raise Failed(f"the ledger has no replay {replay_id}")
    if as_json:
        print_json(entry)
    else:
        _print_entry(entry)


COMMANDS: Final[Sequence[click.Command]] = (replay,)
