"""`redrive audit list`: who changed what, when, and why."""

from typing import Any

import click

from deploy.connections import connected
from deploy.event_loop import run
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import print_json, print_table, say
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.audit import AuditSearch
from replay.audit import list_audit as read_audit


@click.group(cls=Commands)
def audit() -> None:
    """The audit: operators' changes, and the data that they revealed."""


@audit.command(
    "list",
    epilog=examples("redrive audit list --from '2 days ago'", "redrive audit list --operator ada --action 'replay.*'"),
)
@click.option("--operator", help="Who.")
@click.option("--action", "action_glob", metavar="GLOB", help="The action, with * for any text: 'source.*'.")
@click.option("--from", "from_ms", type=TIME, help="At or after.")
@click.option("--to", "to_ms", type=TIME, help="Before.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@with_runtime
def list_audit(runtime: Runtime, limit: int, as_json: bool, **search: Any) -> None:
    """Newest first."""

    async def read() -> list[dict[str, Any]]:
        async with connected(runtime.settings) as connection:
            return (await read_audit(connection, AuditSearch(**search), limit))[0]

    found = run(read())
    if as_json:
        print_json({"audit": found})
        return
    print_table(
        ("at", "operator", "action", "reason", "details"),
        [
            (
                row["at"],
                row["operator"],
                row["action"],
                row["reason"],
                row["details"],
            )
            for row in found
        ],
    )
    if not found:
        say("no audit entry matches")
