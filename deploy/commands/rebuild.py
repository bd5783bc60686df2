"""`redrive rebuild [list | drop]`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import click
from pydantic import ValidationError

from deploy.connections import connect, connected, open_pool, postgres
from deploy.event_loop import run
from deploy.postgres import PoolConnections
from deploy.redriving import POOL_CONNECTIONS, rebuild_ports
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.diff_output import print_diff
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import out, print_fields, print_json, print_table, progress, say
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.answering import WORK_SECONDS, while_answering
from replay.audit import Author
from replay.faults import first_fault
from replay.log.reader import LogReader
from replay.rebuild import lifecycle, snapshot
from replay.rebuild.after_flip import settle
from replay.rebuild.flip import APPLY, ROLLBACK, flip
from replay.rebuild.fold import build
from replay.rebuild.order import RebuildOrder, describe_all, drop_one
from replay.selection.selection import iso_of
from replay.tables import generations
from replay.tables.diff import Diff, difference
from replay.tables.generations import RebuildPorts

_REASON: Final = click.option("--reason", help="Why; goes into the audit.")


def order_of(
    *, apply: bool, generation: int | None, accept_loss: bool, as_of: int | None, **flags: Any
) -> tuple[RebuildOrder, bool]:
    """The order of the flags, and True if the generation that it folds goes live."""
    if generation is not None and not apply:
        raise click.UsageError("--generation goes with --apply")
    is_applied = apply and generation is None
    if is_applied and (flags["rollback"] or as_of is not None):
        raise click.UsageError("--apply, --rollback and --as-of are mutually exclusive")
    fields = {**flags, "apply": generation, "accept_loss": accept_loss and not is_applied, "as_of": iso_of(as_of)}
    try:
        order = RebuildOrder.model_validate(fields)
    except ValidationError as error:
        raise click.UsageError(first_fault(error)) from error
    return order.model_copy(update={"accept_loss": accept_loss}), is_applied


@click.group(
    cls=Commands,
    invoke_without_command=True,
    epilog=examples(
        "redrive rebuild",
        "redrive rebuild --only payments --apply --reason 'a fixed projection'",
        "redrive rebuild --rollback --reason 'it was worse'",
        "redrive rebuild --as-of 'yesterday 14:00' --name before",
    ),
)
@click.option("--only", "only", multiple=True, metavar="TABLE", help="Fold these tables alone, and copy the others.")
@click.option("--as-of", "as_of", type=TIME, help="Create a snapshot of that time in the schema scratch_<name>.")
@click.option("--name", help="The snapshot's name; default at_<time>.")
@click.option("--apply", is_flag=True, help="Make it live, once it has caught up.")
@click.option("--generation", type=click.IntRange(min=1), help="With --apply: a generation that was folded before.")
@click.option("--rollback", is_flag=True, help="Make the previous generation live again.")
@click.option(
    "--accept-loss", is_flag=True, help="Accept that the log has lost records: with --apply, --rollback or --as-of."
)
@_REASON
@json_option
@with_runtime
def rebuild(runtime: Runtime, reason: str | None, as_json: bool, **flags: Any) -> None:
    """Fold the whole log into a new generation, and show what differs from the live one; --apply makes it live.

    Resumes one that is being built. A replay adds missing rows; a rebuild repairs wrong ones.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    order, is_applied = order_of(**flags)
    found = run(_do(runtime, order, is_applied, Author(runtime.operator, reason)))
    differs: Diff | None = found.pop("difference", None)
    if as_json:
        print_json(found if differs is None else {**found, "difference": differs.as_document()})
    else:
        _print(found, differs)


@asynccontextmanager
async def _opened(runtime: Runtime) -> AsyncIterator[tuple[RebuildPorts, LogReader]]:
    # Says in words what keeps us from the database.
    (await connect(runtime.settings)).terminate()
    connections = PoolConnections()
    pool = await open_pool(runtime.settings, POOL_CONNECTIONS, connections)
    try:
        ports = rebuild_ports(runtime, pool)
        with closing(postgres(runtime.settings)) as server:
            async with while_answering(server, connections.drop, WORK_SECONDS), ports.open_log() as reader:
                yield ports, reader
    finally:
        pool.terminate()


async def _do(runtime: Runtime, order: RebuildOrder, is_applied: bool, author: Author) -> dict[str, Any]:
    moment = order.snapshot()
    async with _opened(runtime) as (ports, reader):
        if moment is not None:
            with _Bar("folding the log") as advance:
                return await snapshot.make(ports, moment, author, advance)
        async with ports.pool.acquire() as connection:
            number = await order.destination(connection)
        if number is None:
            return await _rebuilt(ports, reader, order, is_applied, author)
        with _Bar("going back" if order.rollback else "going live"):
            action = ROLLBACK if order.rollback else APPLY
            return await flip(ports, reader, number, action, author, order.accept_loss)


async def _rebuilt(
    ports: RebuildPorts, reader: LogReader, order: RebuildOrder, is_applied: bool, author: Author
) -> dict[str, Any]:
    async with ports.pool.acquire() as connection:
        await lifecycle.sweep(connection)
        await snapshot.sweep(connection)
    await settle(ports, reader)
    async with ports.pool.acquire() as connection:
        generation = await lifecycle.begin(connection, ports, generations.tables_named(order.only), author)
    with _Bar("folding the log") as advance:
        fold = await build(ports, generation, reader, advance)
    async with ports.pool.acquire() as connection:
        live = next(one for one in await generations.kept(connection) if one.is_live)
        done, of = await fold.way(connection)
        found = {
            "generation": generation.number,
            "live": live.number,
            "behind": of - done,
            "lost": await generations.lost_ranges(connection, generation.number),
            "difference": await difference(connection, live.schema, generation.schema),
        }
        if not is_applied:
            # Before a flip it stays one that is being built: a process that is killed in between resumes it.
            await generations.note_ready(connection, generation.number)
            return found
    with _Bar("going live"):
        return {**found, **await flip(ports, reader, generation.number, APPLY, author, order.accept_loss)}


class _Bar:
    """A progress bar, as the function that moves it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._progress = progress()

    def __enter__(self) -> Callable[[int, int], None]:
        bar = self._progress.__enter__()
        task = bar.add_task(self._text, total=None)
        return lambda done, of: bar.update(task, completed=done, total=of)

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)


def _print(found: dict[str, Any], differs: Diff | None) -> None:
    lost = found.pop("lost", None)
    print_fields(found)
    for topic, partition, first, end in lost or ():
        say(f" {topic}:{partition}:{first}-{end - 1}", "lost", "yellow")
    if differs is not None:
        out.print()
        print_diff(differs)
    number = found.get("generation")
    if number not in (None, found.get("live")):
        say(
            f"\nlive with `redrive rebuild --apply --generation {number}`, gone with `redrive rebuild drop {number}`;"
            " until then the console keeps it up to date"
        )


@rebuild.command("list", epilog=examples("redrive rebuild list"))
@json_option
@with_runtime
def list_all(runtime: Runtime, as_json: bool) -> None:
    """Every generation that is kept, and the states of the past."""

    async def read() -> dict[str, Any]:
        async with connected(runtime.settings) as connection:
            return await describe_all(connection)

    found = run(read())
    if as_json:
        print_json(found)
        return
    _print_list(found["generations"], "generation state only folded to_fold lost settled operator reason created_at")
    if found["scratches"]:
        out.print()
        _print_list(found["scratches"], "name state as_of operator reason created_at")


def _print_list(entries: Sequence[dict[str, Any]], names: str) -> None:
    columns = names.split()
    print_table(columns, [[one[name] for name in columns] for one in entries])


@rebuild.command("drop", epilog=examples("redrive rebuild drop 2", "redrive rebuild drop before"))
@click.argument("which", metavar="N|NAME")
@_REASON
@json_option
@with_runtime
def drop(runtime: Runtime, which: str, reason: str | None, as_json: bool) -> None:
    """A generation by its number, or a state of the past by its name. The live one stays."""
    author = Author(runtime.operator, reason)

    async def work() -> None:
        async with connected(runtime.settings) as connection:
            await drop_one(connection, which, author)

    run(work())
    if as_json:
        print_json({"dropped": which})
    else:
        say(f"dropped {which}")
