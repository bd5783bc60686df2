"""`redrive sources list | pause | resume | disable | enable`: what operators say of a source."""

from collections.abc import Sequence
from typing import Any

import click

from deploy.connections import connected
from deploy.event_loop import run
from deploy.fold_groups import INSTALLATION, find_groups, name_other_readers
from deploy.reload import control_topic
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import print_json, print_table, say, warn
from deploy.wiring import Runtime
from replay.audit import Author
from replay.operations.sources import VERBS, SourceChange, SourceVerbName, change, describe_all
from replay.ports import Connection
from schemas.errors import Unavailable
from schemas.topics import topic_of


@click.group(cls=Commands)
def sources() -> None:
    """The configured sources, and whether they are paused or disabled."""


@sources.command("list", epilog=examples("redrive sources list"))
@json_option
@with_runtime
def list_sources(runtime: Runtime, as_json: bool) -> None:
    """Every source, its topic, how many secrets it has, and its state; also one left paused and not configured."""

    async def read() -> Sequence[dict[str, Any]]:
        return describe_all(runtime.sources, await control_topic(runtime.cluster()).states())

    rows = run(read())
    if as_json:
        print_json({"sources": rows})
    else:
        print_table(tuple(rows[0]) if rows else ("source",), [list(row.values()) for row in rows])


def _command(verb: SourceVerbName, text: str) -> click.Command:
    @click.command(verb, help=text, epilog=examples(f"redrive sources {verb} stripe --reason 'ticket 7'"))
    @click.argument("source")
    @click.option("--reason", help="Why; goes into the audit.")
    @json_option
    @with_runtime
    def change_state(runtime: Runtime, source: str, reason: str | None, as_json: bool) -> None:
        done, others = run(_change(runtime, SourceChange(source, verb, Author(runtime.operator, reason))))
        for sentence in others:
            warn(f"{sentence}; this change applies to it, too", "!")
        if as_json:
            print_json(done)
        else:
            was = "already" if done["was"] == done["state"] else f"(it was {done['was']})"
            say(f"{source} is {done['state']} {was}")

    return change_state


async def _change(runtime: Runtime, wanted: SourceChange) -> tuple[dict[str, Any], list[str]]:
    """The result, and a sentence for each other installation that it applies to."""
    async with connected(runtime.settings) as connection:
        control = control_topic(runtime.cluster())
        done = await change(connection, control, runtime.sources, wanted)
        return done, await _other_readers(runtime, connection, wanted.source)


async def _other_readers(runtime: Runtime, connection: Connection, source: str) -> list[str]:
    try:
        groups = await find_groups(runtime.cluster())
    except Unavailable:
        # A login that may not ask for groups may change a source all the same.
        return []
    return name_other_readers(groups, await connection.fetchval(INSTALLATION), [topic_of(source)])


for _verb, _said in VERBS.items():
    sources.add_command(_command(_verb, _said.meaning))
