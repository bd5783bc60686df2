"""A selection as flags: the same for a plan and for a run."""

from collections.abc import Callable
from typing import Any, Final

import click
import orjson

from deploy.terminal.targeting import To, to_option
from deploy.terminal.times import TIME
from deploy.wiring import Runtime
from replay.selection.selection import Selection, iso_of, parse_selection, sources_of_log
from schemas.errors import InvalidSelection

KEY_HELP: Final = "The records of a row: 'accounts stripe cus_1'; a longer KEY is a JSON list. Repeatable."


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Several values of one flag widen it, several flags narrow one another, `--any` adds."""
    for decorate in reversed(
        (
            click.option(
                "--source", "sources", multiple=True, help="Repeatable; default every configured one, and 'operator'."
            ),
            click.option("--from", "from", type=TIME, help="Arrived at or after: RFC 3339 or '2h ago'."),
            to_option,
            click.option(
                "--by",
                type=click.Choice(["arrival", "event"]),
                default="arrival",
                help="The clock of --from and --to: ours (arrival), or the provider's (event).",
            ),
            click.option("--type", "types", multiple=True, metavar="GLOB", help="'stripe.invoice.*'. Repeatable."),
            click.option("--event-id", "event_ids", multiple=True, help="By id, anywhere on the log. Repeatable."),
            click.option(
                "--offsets", multiple=True, metavar="TOPIC:PARTITION:A-B", help="Both ends included. Repeatable."
            ),
            click.option("--dead-letters", is_flag=True, help="Only events that the index calls dead."),
            click.option(
                "--key",
                "keys",
                multiple=True,
                nargs=3,
                metavar="MODEL SOURCE KEY",
                help=KEY_HELP,
            ),
            click.option("--any", multiple=True, metavar="JSON", help="A further selection to add. Repeatable."),
        )
    ):
        command = decorate(command)
    return command


def selection_of(runtime: Runtime, to: To, **flags: Any) -> Selection:
    """Raises `InvalidSelection`."""
    further = [_json("--any", text) for text in flags.pop("any")]
    keys = [_row_key(*key) for key in flags["keys"]]
    flags |= {"from": iso_of(flags["from"]), "to": iso_of(to.ms), "keys": keys}
    own = {name: value for name, value in flags.items() if value}
    documents = [own, *further] if own.keys() - {"by"} or not further else further
    return parse_selection(documents[0] if len(documents) == 1 else {"any": documents}, sources_of_log(runtime.sources))


def _json(flag: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSelection(f"{flag}: {text[:100]!r} is not JSON") from error


def _row_key(model: str, source: str, key: str) -> list[Any]:
    return [model, source, *(_json("--key", key) if key.startswith("[") else [key])]
