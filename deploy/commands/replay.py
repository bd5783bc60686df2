"""`redrive replay plan | run | list | show | pause | resume | cancel`."""

import asyncio
import uuid
from collections import Counter
from typing import Any, Final

import asyncpg
import click

from deploy.connections import connected, open_pool
from deploy.event_loop import run
from deploy.exit_codes import EXIT_FAILED, Failed, Reported
from deploy.redriving import replay_jobs
from deploy.targets import require_target
from deploy.terminal.command import json_option, required_reason, with_runtime
from deploy.terminal.dry_run_folding import foresee, print_foreseen
from deploy.terminal.following import Follow
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import print_fields, print_json, print_table, progress, say
from deploy.terminal.planning import print_gone, print_plan, say_what_is_left, warn_of_unknown
from deploy.terminal.selecting import selection_of, selection_options
from deploy.terminal.targeting import endpoint_options, print_outcomes, warn_of_failures, with_endpoint
from deploy.wiring import Runtime
from replay.audit import Author
from replay.jobs import ledger
from replay.jobs.dry_run import DryRun
from replay.jobs.ledger import NewReplay, UnknownReplay
from replay.jobs.outcomes import count_outcomes, list_outcomes
from replay.jobs.plan import Plan, make_plan
from replay.log.pacing import require_rate
from replay.log.reader import LogReader
from replay.selection.selection import Selection
from replay.tables.folding import LiveFolding
from replay.targets.document import TargetDocument


def _beginning(_: click.Context, __: click.Parameter, name: str) -> str:
    if not ledger.is_beginning(name):
        raise click.BadParameter(f"invalid replay id {name[:40]!r}: expected hexadecimal digits, all or the first ones")
    return name


_HIDDEN: Final = frozenset({"selection", "gone", "partitions", "outcomes", "statuses", "first_failed"})
_ID: Final = click.argument("name", metavar="ID", callback=_beginning)
"""A replay's id, or enough of it to be unique."""


@click.group(cls=Commands)
def replay() -> None:
    """Re-drive a selection of the log: it adds missing rows, and changes nothing that was right."""


@replay.command(
    epilog=examples(
        "redrive replay plan --source stripe --from '2h ago' --to '1h ago' --diff",
        "redrive replay plan --key accounts stripe cus_1",
    )
)
@selection_options
@click.option(
    "--diff", "with_diff", is_flag=True, help="Fold it into temporary tables, and show what a run would change."
)
@click.option("-v", "--verbose", "has_partitions", is_flag=True, help="Also show the offsets of each partition.")
@json_option
@with_runtime
def plan(runtime: Runtime, with_diff: bool, has_partitions: bool, as_json: bool, **selection: Any) -> None:
    """Say what a run would re-drive; changes nothing.

    Several values of one flag widen the selection, several flags narrow one another, --any adds.
    """
    wanted, target = selection_of(runtime, **selection), selection["to"].target
    if with_diff and target is not None:
        raise click.UsageError("--diff shows changes of the tables, and a target has none")

    async def work() -> tuple[Plan, DryRun | None]:
        await require_target(runtime, target)
        async with connected(runtime.settings) as connection:
            made, _ = await _planned(runtime, connection, wanted)
            if not with_diff:
                return made, None
            async with LogReader(runtime.cluster()) as reader:
                return made, await foresee(reader, connection, made)

    made, foreseen = run(work())
    if as_json:
        document = made.as_document() | {"target": target and target.as_document()}
        print_json(document | ({"diff": foreseen.as_document()} if foreseen else {}))
        return
    print_plan(made, target, has_partitions)
    if foreseen:
        print_foreseen(foreseen)


async def _planned(
    runtime: Runtime, connection: "asyncpg.Connection[asyncpg.Record]", selection: Selection
) -> tuple[Plan, int]:
    folding = await LiveFolding.open(connection)
    with progress() as bar:
        task = bar.add_task("reading the window", total=None)

        def advance(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        async with LogReader(runtime.cluster()) as reader:
            return await make_plan(reader, connection, selection, folding.fold, advance), folding.generation


@replay.command(
    "run",
    epilog=examples(
        "redrive replay run --source stripe --from '2h ago' --reason 'rows deleted by mistake'",
        "redrive replay run --from '1h ago' --to http://localhost:3000/hooks --reason 'a bug in my handler'",
    ),
)
@selection_options
@required_reason
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="The limit of records a second.")
@endpoint_options
@click.option("--detach", is_flag=True, help="Print the id, and leave it to the console service.")
@click.option("--foreground", is_flag=True, help="Run it in this process, at once.")
@json_option
@with_runtime
def run_replay(
    runtime: Runtime,
    reason: str,
    rate: float | None,
    resign: bool,
    concurrency: int | None,
    detach: bool,
    foreground: bool,
    as_json: bool,
    **selection: Any,
) -> None:
    """Re-drive the selection, next to live traffic, and wait for the end.

    Several values of one flag widen the selection, several flags narrow one another, --any adds. The console
    service runs it; where none does within a few seconds, this command. Exit 1 if it failed or was cancelled, or if
    records failed at its target.
    """
    if detach and foreground:
        raise click.UsageError("--detach and --foreground exclude each other")
    wanted = selection_of(runtime, **selection)
    target = with_endpoint(selection["to"].target, resign, concurrency)
    entry = run(_run(runtime, wanted, (reason, require_rate(rate), target), None if detach else foreground))
    if detach and not as_json:
        print(entry["id"])
        return
    _print_entry(entry, as_json)
    if entry.get("first_failed"):
        warn_of_failures(entry)
    if entry["state"] in ("failed", "cancelled") or entry["failed"]:
        raise Reported(EXIT_FAILED)


async def _run(
    runtime: Runtime,
    selection: Selection,
    terms: tuple[str, float | None, TargetDocument | None],
    is_here: bool | None,
) -> dict[str, Any]:
    """`is_here` None: nobody waits for the end."""
    reason, rate, target = terms
    author = Author(runtime.operator, reason)
    document = await require_target(runtime, target)
    async with connected(runtime.settings) as connection:
        plan, generation = await _planned(runtime, connection, selection)
        plan.require_records()
        warn_of_unknown(plan)
        replay_id = await ledger.create(connection, NewReplay(plan, generation, author, rate, document))
        if is_here is None:
            return await ledger.show_replay(connection, replay_id)
    pool = await open_pool(runtime.settings, 2)
    follow = Follow(pool, replay_jobs(lambda: runtime), author, is_here)
    try:
        with progress() as bar:
            entry = await follow.to_the_end(replay_id, bar)
        if entry["failed"]:
            async with pool.acquire() as connection:
                (entry["first_failed"],), _ = await list_outcomes(connection, replay_id, "failed", limit=1)
        return entry
    except asyncio.CancelledError:
        say_what_is_left(replay_id, follow.has_paused)
        raise
    finally:
        pool.terminate()


def _print_entry(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entry)
        return
    print_gone(entry["gone"])
    if "outcomes" in entry:
        print_outcomes(entry["outcomes"], entry["statuses"])
    shown = {name: value for name, value in entry.items() if name not in _HIDDEN}
    print_fields({**shown, **{f"selection {name}": value for name, value in entry["selection"].items() if value}})


@replay.command("list", epilog=examples("redrive replay list --limit 5"))
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@with_runtime
def list_runs(runtime: Runtime, limit: int, as_json: bool) -> None:
    """The ledger, newest first."""

    async def read() -> list[dict[str, Any]]:
        async with connected(runtime.settings) as connection:
            return await ledger.list_replays(connection, limit)

    entries = run(read())
    if as_json:
        print_json({"replays": entries})
        return
    print_table(
        ("id", "state", "progress", "records", "rows changed", "dead", "by", "reason", "created"),
        [
            (
                entry["id"],
                entry["state"],
                f"{entry['progress']:.0%}",
                entry["records"],
                entry["rows_changed"],
                entry["dead"],
                entry["operator"],
                entry["reason"],
                entry["created_at"],
            )
            for entry in entries
        ],
    )
    if waiting := Counter(entry["state"] for entry in entries)["planned"]:
        say(f"\n{waiting} planned: the console service runs them")


@replay.command("show", epilog=examples("redrive replay show 5f0c", "redrive replay show 5f0c --outcomes --failed"))
@_ID
@click.option("--outcomes", "has_outcomes", is_flag=True, help="List the outcomes of the records at the target.")
@click.option("--failed", is_flag=True, help="Only those that failed.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Outcomes to list.")
@json_option
@with_runtime
def show_run(runtime: Runtime, name: str, has_outcomes: bool, failed: bool, limit: int, as_json: bool) -> None:
    """One entry of the ledger."""
    if failed and not has_outcomes:
        raise click.UsageError("--failed goes with --outcomes")

    async def read() -> dict[str, Any]:
        async with connected(runtime.settings) as connection:
            replay_id = await _found(connection, name)
            entry = await ledger.show_replay(connection, replay_id)
            if has_outcomes:
                outcomes = list_outcomes(connection, replay_id, "failed" if failed else None, limit=limit)
                entry["outcomes"], _ = await outcomes
                entry["statuses"] = await count_outcomes(connection, replay_id)
            return entry

    _print_entry(run(read()), as_json)


async def _found(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> uuid.UUID:
    try:
        return await ledger.find_replay(connection, name)
    except UnknownReplay as error:
        raise Failed(str(error)) from error


def _verb(verb: ledger.ReplayVerbName, meaning: str) -> click.Command:
    @_ID
    @required_reason
    @json_option
    @with_runtime
    def change(runtime: Runtime, name: str, reason: str, as_json: bool) -> None:
        async def work() -> dict[str, Any]:
            async with connected(runtime.settings) as connection:
                found = await _found(connection, name)
                return await ledger.change(connection, found, verb, Author(runtime.operator, reason))

        entry = run(work())
        if as_json:
            print_json(entry)
        else:
            say(f"{entry['id']} is {entry['state']}")

    return click.command(verb, help=meaning, epilog=examples(f"redrive replay {verb} 5f0c --reason 'ticket 7'"))(change)


_MEANINGS: Final[dict[ledger.ReplayVerbName, str]] = {
    "pause": "Pause it: once this has answered, nothing more is written.",
    "resume": "Resume it where it was paused.",
    "cancel": "End it. The rows that it has written stay, and are right.",
}
for _name, _meaning in _MEANINGS.items():
    replay.add_command(_verb(_name, _meaning))
