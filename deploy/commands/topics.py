"""`redrive topics`: what there is, create what is missing, and widen what older versions made too narrow."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from deploy.event_loop import run
from deploy.exit_codes import EXIT_FAILED, Reported
from deploy.installation_audit import record_on_its_own
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import examples
from deploy.terminal.output import print_json, say
from deploy.terminal.topics import print_topic_faults, print_topics
from deploy.topics import Topics, TopicState, wanted
from deploy.wiring import Runtime


async def widen_on_record(runtime: Runtime, admin: Topics) -> dict[str, dict[str, str]]:
    """Repair everything that costs no record; returns topic -> the new settings. Raises `Unavailable`."""
    states = await admin.states(wanted(runtime.sources.values()))
    changes = {state.name: state.widening for state in states if state.widening}
    if changes:
        await record_on_its_own(runtime, "topics.widen", topics=changes)
        await admin.widen(changes)
    return changes


@click.command(epilog=examples("redrive topics", "redrive topics --apply"))
@click.option(
    "--apply", is_flag=True, help="Create missing topics, and widen too narrow settings; without it, list them."
)
@json_option
@with_runtime
def topics(runtime: Runtime, apply: bool, as_json: bool) -> None:
    """Show the topics; --apply creates those that are missing, and widens those of older versions.

    Nothing else of a topic that exists is ever changed.
    """

    async def work() -> tuple[list[str], dict[str, dict[str, str]], list[TopicState]]:
        needed = wanted(runtime.sources.values())
        async with Topics(runtime.cluster()) as admin:
            created: list[str] = []
            widened: dict[str, dict[str, str]] = {}
            if apply:
                missing = sorted(set(needed) - await admin.names())
                if missing:
                    await record_on_its_own(runtime, "topics.create", topics=missing)
                created = await admin.create(needed, runtime.settings.partitions, runtime.settings.replication_factor)
                widened = await widen_on_record(runtime, admin)
            return created, widened, await admin.states(needed)

    created, widened, states = run(work())
    if as_json:
        missing = [state.name for state in states if not state.exists]
        found = [asdict(state) for state in states]
        print_json({"created": created, "widened": widened, "missing": missing, "topics": found})
    else:
        _report(widened, states)
    if any(state.faults for state in states):
        raise Reported(EXIT_FAILED)


def _report(widened: dict[str, dict[str, str]], states: Sequence[TopicState]) -> None:
    print_topics(states)
    for name, settings in widened.items():
        say(f"{name} widened: {', '.join(f'{setting}={value}' for setting, value in settings.items())}")
    for state in states:
        if not state.exists:
            say(f"{state.name} is missing; --apply creates it", "fault", "red")
    print_topic_faults(states)
