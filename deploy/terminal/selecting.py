"""A selection as flags: the same for a plan and for a run."""

from collections.abc import Callable
from typing import Any, Final

import click
import orjson

from deploy.terminal.targeting import To, to_option
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.selection.document import parse_selection, sources_of_log
from replay.selection.selection import MAX_VALUES, RowKey, Selection, parse_offsets
from schemas.errors import InvalidSelection

KEY_HELP: Final = "What touches a row: 'accounts stripe cus_1'; a longer KEY is a JSON list. Repeatable."


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Several values of one flag widen it, several flags narrow one another, `--any` adds."""
    for decorate in reversed(
        (
            click.option(
                "--source", "sources", multiple=True, help="Repeatable; default every configured one, and 'operator'."
            ),
            click.option("--from", "from_ms", type=TIME, help="Arrived at or after: RFC 3339 or '2h ago'."),
            to_option,
            click.option(
                "--by",
                type=click.Choice(["arrival", "event"]),
                default="arrival",
                help="Whose clock --from and --to are on: ours, or the provider's.",
            ),
            click.option("--type", "types", multiple=True, metavar="GLOB", help="'stripe.invoice.*'. Repeatable."),
            click.option("--event-id", "event_ids", multiple=True, help="Wherever it is on the log. Repeatable."),
            click.option("--offsets", multiple=True, metavar="TOPIC:PARTITION:A-B", help="Both ends in. Repeatable."),
            click.option("--dead-letters", "is_dead", is_flag=True, help="Only what the index holds as dead."),
            click.option(
                "--key",
                "keys",
                multiple=True,
                nargs=3,
                metavar="MODEL SOURCE KEY",
                help=KEY_HELP,
            ),
            click.option("--any", "union", multiple=True, metavar="JSON", help="A further selection. Repeatable."),
        )
    ):
        command = decorate(command)
    return command


def selection_of(runtime: Runtime, union: tuple[str, ...], offsets: tuple[str, ...], to: To, **flags: Any) -> Selection:
    """Raises `InvalidSelection`."""
    flags["to_ms"] = to.ms
    sources, keys = flags.pop("sources"), tuple(_row_key(*key) for key in flags.pop("keys"))
    known = sources_of_log(runtime.sources)
    if unknown := sorted(set(sources) - set(known)):
        raise InvalidSelection(f"no source is called {', '.join(unknown)}; there are: {', '.join(known)}")
    further = [_further(text, known) for text in union]
    has_flags = sources or offsets or keys or any(value for name, value in flags.items() if name != "by")
    if further and not has_flags:
        chosen = further
    else:
        parts = tuple(parse_offsets(text) for text in offsets)
        chosen = [Selection(sources=sources or known, offsets=parts, keys=keys, **flags), *further]
    return chosen[0] if len(chosen) == 1 else Selection(any_of=tuple(chosen[: MAX_VALUES + 1]))


def _further(text: str, known: tuple[str, ...]) -> Selection:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSelection(f"--any is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidSelection("--any is a JSON object with the fields of a selection")
    return parse_selection(document, known)


def _row_key(model: str, source: str, key: str) -> RowKey:
    if not key.startswith("["):
        return RowKey(model, (source, key))
    try:
        values = orjson.loads(key)
    except orjson.JSONDecodeError as error:
        raise InvalidSelection(f"--key: {key[:100]!r} is no JSON list") from error
    if not all(isinstance(value, str) for value in values):
        raise InvalidSelection("--key: the parts of a key are texts")
    return RowKey(model, (source, *values))
