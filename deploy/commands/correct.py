"""`redrive correct credits | account | subscription`: an operator's change, as an event of the log."""

import json
from collections.abc import Callable
from typing import Any, get_args

import click

from deploy.commands.send import wait_until_folded
from deploy.connections import connected
from deploy.event_loop import run
from deploy.operator_log import correction_desk
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import Commands, examples
from deploy.terminal.output import print_json, print_table, say
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.operations.corrections import Corrected, CorrectionOrder, parse_correction
from replay.operations.corrections import correct as make_correction
from replay.selection.selection import iso_of
from schemas.corrections import SubscriptionStatus


@click.group(cls=Commands)
def correct() -> None:
    """Correct a balance, a frozen account or a subscription: never by UPDATE, always by an event of the log."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every correction."""
    for decorate in reversed(
        (
            click.option("--source", required=True, help="The source of the customer: 'stripe'."),
            click.option("--reason", required=True, help="Why; goes into the record and into the audit."),
            click.option("--id", "correction_id", help="An id of your choice: a repeat with it counts once."),
            click.option(
                "--new", "is_new", is_flag=True, help="Create the customer or subscription if no record has named it."
            ),
            click.option("--dry-run", is_flag=True, help="Show the row before and after; change nothing."),
            click.option("--wait", is_flag=True, help="Wait until its row is seen in Postgres."),
            json_option,
        )
    ):
        command = decorate(command)
    return with_runtime(command)


@correct.command(
    epilog=examples("redrive correct credits cus_1 --credits 50 --source stripe --reason 'ticket 7' --dry-run")
)
@click.argument("customer")
@click.option("--credits", type=int, required=True, help="The number to add; negative to subtract.")
@_options
def credits(runtime: Runtime, customer: str, credits: int, **asked: Any) -> None:
    """Give credits to CUSTOMER, or take them back: an entry of kind 'adjustment'."""
    _correct(runtime, {"type": "credits.adjusted", "customer": customer, "credits": credits}, **asked)


@correct.command(epilog=examples("redrive correct account cus_1 --unfreeze --source stripe --reason 'ticket 7'"))
@click.argument("customer")
@click.option("--freeze", "is_to_freeze", is_flag=True, help="Holds until the next event of the provider.")
@click.option("--unfreeze", "is_to_unfreeze", is_flag=True, help="Holds until the next event of the provider.")
@_options
def account(runtime: Runtime, customer: str, is_to_freeze: bool, is_to_unfreeze: bool, **asked: Any) -> None:
    """Freeze or unfreeze the account of CUSTOMER."""
    # As one flag of two names, neither of them would unfreeze: click does not take `required` for missed there.
    if is_to_freeze == is_to_unfreeze:
        raise click.UsageError("pass --freeze or --unfreeze")
    kind = "account.frozen" if is_to_freeze else "account.unfrozen"
    _correct(runtime, {"type": kind, "customer": customer}, **asked)


@correct.command(
    epilog=examples("redrive correct subscription sub_1 --status active --source stripe --reason 'ticket 7'")
)
@click.argument("subscription")
@click.option("--status", type=click.Choice(get_args(SubscriptionStatus)), required=True)
@click.option("--period-end", type=TIME, help="The end of the current period.")
@click.option("--customer", help="The customer of a new subscription; only with --new.")
@_options
def subscription(
    runtime: Runtime, subscription: str, status: str, period_end: int | None, customer: str | None, **asked: Any
) -> None:
    """Set the status of SUBSCRIPTION, until the provider says more."""
    change = {"type": "subscription.corrected", "subscription": subscription, "status": status, "customer": customer}
    if period_end is not None:
        change["current_period_end"] = iso_of(period_end)
    _correct(runtime, change, **asked)


def _correct(
    runtime: Runtime,
    change: dict[str, Any],
    *,
    correction_id: str | None,
    is_new: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **said: str,
) -> None:
    document = {"change": change, "id": correction_id, "new": is_new, "dry_run": dry_run, **said}
    order = parse_correction(json.dumps(document).encode())
    done = run(_make(runtime, order, wait))
    if as_json:
        print_json({**done._asdict(), "dry_run": dry_run})
    else:
        _print(done)


async def _make(runtime: Runtime, order: CorrectionOrder, wait: bool) -> Corrected:
    async with connected(runtime.settings) as connection:
        desk = correction_desk(runtime.cluster(), runtime.sources)
        done = await make_correction(connection, desk, order, runtime.operator)
        if wait and done.location is not None:
            await wait_until_folded(connection, [done.location])
        return done


def _print(done: Corrected) -> None:
    before, after = done.before or {}, done.after or {}
    changed = [(name, before.get(name), value) for name, value in after.items() if value != before.get(name)]
    if changed:
        print_table((done.table, "before", "after"), changed)
    if done.status == "planned":
        say("nothing was changed: this was a dry run" if changed else "it would change nothing")
    elif done.status == "duplicate":
        say(f"{done.event_id} is already on the log, at {done.location}: nothing was appended")
    else:
        say(f"{done.event_id} is on the log, at {done.location}")
