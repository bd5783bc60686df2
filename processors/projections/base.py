"""The events that a projection yields, and the small rules that several providers share. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from schemas.envelope import Record
from schemas.errors import PoisonRecord
from schemas.lattice import Fact
from schemas.plugin_calls import call
from schemas.providers.base import Payload
from schemas.providers.poison import poison_of


# Freezing would double what it costs to make one, and one is made for every event.
@dataclass(slots=True)
class Event:
    """One event of a record: its row in the event index, and the facts it adds.

    No facts means that nobody reads this type: it is `ignored`, and so is an event with an `error`, which says why.
    With `poison` it is dead: its type is read, and it can't be.
    """

    event_id: str
    type: str
    occurred_at: datetime | None
    facts: tuple[Fact, ...] = ()
    error: str | None = None
    poison: PoisonRecord | None = None

    @property
    def status(self) -> str:
        return "applied" if self.facts and self.error is None else "ignored"


Projection = Callable[[Record, Payload], Iterable[Event]]
"""(record, payload) -> events. Raises `PoisonRecord`, pydantic's ValidationError or one of `WRONG_SHAPE`, and then the
record as a whole is dead. Where a record holds several events, `project_each` keeps them apart.
"""

ItemT = TypeVar("ItemT")


def project_each(
    record: Record,
    items: Iterable[ItemT],
    project: Callable[[Record, ItemT], Event],
    identify: Callable[[ItemT], tuple[str, str]],
    unread_type: Callable[[ItemT], str | None] = lambda _: None,
) -> Iterator[Event]:
    """The event of every item of a batch. An item that can't be read is a dead event, and leaves the others alone.

    `project` raises as a projection does. `identify` gives (event id, type), and `unread_type` the type of an item that
    no projection reads, so that nobody misses its id; both may raise for the same reasons.
    """
    for ordinal, item in enumerate(items, start=1):
        try:
            event = project(record, item)
        except BaseException as error:  # noqa: BLE001 - outermost per event: a projection's bug must not stop the rest
            kind = _unread(unread_type, item)
            if kind is not None:
                event = Event(unnamed(record.record_id, ordinal), kind, None)
            else:
                event = _dead_event(record, ordinal, item, identify, poison_of(error))
        yield event


def _unread(unread_type: Callable[[ItemT], str | None], item: ItemT) -> str | None:
    try:
        return call(unread_type, item)
    except Exception:  # noqa: BLE001 - then it is read, and it can't be
        return None


def _dead_event(
    record: Record, ordinal: int, item: ItemT, identify: Callable[[ItemT], tuple[str, str]], poison: PoisonRecord
) -> Event:
    try:
        event_id, kind = call(identify, item)
    except Exception:  # noqa: BLE001 - it has no name of its own
        event_id, kind = unnamed(record.record_id, ordinal), f"{record.provider}.unknown"
    return Event(event_id, kind, None, poison=poison)


def unnamed(record_id: str, ordinal: int) -> str:
    """Names an event that has no id, by its place in its record; no id that `event_id` makes holds a `#`."""
    return f"{record_id}#{ordinal}"


UNKNOWN_STATUS: Final = "a status that redrive does not know"
"""Which one is not said: errors are shown and logged, and a status is whatever the sender wrote."""

NO_MESSAGE: Final = "an event about another message, not a message"

_OPT_OUT_WORDS: Final = frozenset(
    {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "optout", "revoke", "arret", "arrêt"}
)
"""Twilio's default opt-out keywords (https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out), and French."""


_OPT_OUT_BUTTONS: Final = frozenset(
    {
        "stop", "stopall", "unsubscribe", "optout", "opt out", "arret", "arrêt",
        "stop promotions", "unsubscribe from promos", "unsubscribe from all",
    }
)  # fmt: skip
"""A business words its own buttons: a "Cancel" there cancels an appointment. The last three are those of common
marketing templates.
"""


def is_opt_out(written: str | None) -> bool:
    return written is not None and written.strip().casefold() in _OPT_OUT_WORDS


def is_opt_out_button(title: str | None) -> bool:
    return title is not None and title.strip().casefold() in _OPT_OUT_BUTTONS
