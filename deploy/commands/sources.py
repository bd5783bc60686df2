"""`redrive sources list | pause | resume | disable | enable`: what operators say of a source."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from deploy.cli import json_option, run, with_runtime
from deploy.control import Control, say
from deploy.output import out, print_json, print_table
from deploy.wiring import Runtime, connect
from replay import audit
from schemas.control import SourceState, State
from schemas.errors import InvalidSelection
from schemas.settings import Source

_VERBS: Final[dict[str, tuple[State, str]]] = {
    "pause": ("paused", "Store what comes in, and fold it later: after `resume`."),
    "resume": ("active", "Fold again, from where the fold was paused."),
    "disable": ("disabled", "Answer 410 and store nothing: the provider's deliveries are refused."),
    "enable": ("active", "Take deliveries again."),
}


@click.group()
def sources() -> None:
    """The configured sources, and whether they are paused or disabled."""


async def _states(runtime: Runtime) -> dict[str, SourceState]:
    control = Control(runtime.settings.require_kafka())
    try:
        await control.start()
        return dict(await control.catch_up())
    finally:
        await control.stop()


@sources.command("list")
@json_option
@with_runtime
def list_sources(runtime: Runtime, as_json: bool) -> None:
    """Every source, its topic, how many secrets it has, and its state."""
    states = run(_states(runtime))
    rows = [_row(source, states.get(source.name)) for source in runtime.sources.values()]
    if as_json:
        print_json({"sources": rows})
        return
    print_table(tuple(rows[0]) if rows else ("source",), [list(row.values()) for row in rows])


def _row(source: Source, said: SourceState | None) -> dict[str, Any]:
    return {
        "source": source.name,
        "provider": source.provider.name,
        "topic": source.topic,
        "secrets": len(source.secrets.values),
        "state": said.state if said else "active",
        "since": said.at if said else None,
        "by": said.operator if said else None,
        "reason": said.reason if said else None,
    }


def _command(verb: str, state: State, text: str) -> click.Command:
    @click.command(verb, help=text)
    @click.argument("source")
    @click.option("--reason", default="", help="Why; goes into the audit.")
    @json_option
    @with_runtime
    def change(runtime: Runtime, source: str, reason: str, as_json: bool) -> None:
        if source not in runtime.sources:
            raise InvalidSelection(f"no source is called {source!r}; there are: {', '.join(runtime.sources)}")
        before = run(_change(runtime, source, state, verb, reason))
        if as_json:
            print_json({"source": source, "state": state, "was": before})
        else:
            out.print(f"{source} is {state}" + (f" (it was {before})" if before != state else " already"))

    return change


async def _change(runtime: Runtime, source: str, state: State, verb: str, reason: str) -> str:
    said = (await _states(runtime)).get(source)
    before = said.state if said else "active"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection = await connect(runtime.settings)
    try:
        # The audit first, and undone if the log does not take the word: nothing happens that is not on record.
        async with connection.transaction():
            await audit.note(connection, runtime.operator, f"source.{verb}", reason or None, source=source, was=before)
            await say(runtime.settings.require_kafka(), SourceState(source, state, runtime.operator, reason, now))
    finally:
        await connection.close()
    return before


for _verb, (_state, _text) in _VERBS.items():
    sources.add_command(_command(_verb, _state, _text))

COMMANDS: Final[Sequence[click.Command]] = (sources,)
