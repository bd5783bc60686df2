"""What operators say of a source: pause, resume, disable, enable. On record before it is in force (invariant 10)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from replay import audit
from replay.ports import Connection
from schemas.control import SourceState, State
from schemas.errors import InvalidTransition
from schemas.settings import Source


class Verb(NamedTuple):
    """The state that it brings, from which states, and what that means."""

    state: State
    allowed_from: frozenset[State]
    meaning: str


VERBS: Final[dict[str, Verb]] = {
    "pause": Verb("paused", frozenset({"active"}), "Store what comes in, and fold it later: after `resume`."),
    "resume": Verb("active", frozenset({"paused"}), "Fold again, from where the fold was paused."),
    "disable": Verb(
        "disabled",
        frozenset({"active", "paused"}),
        "Answer 410 and store nothing: the provider's deliveries are refused.",
    ),
    "enable": Verb("active", frozenset({"disabled"}), "Take deliveries again, and fold them."),
}


@dataclass(frozen=True, slots=True)
class ControlTopic:
    """The topic in which operators speak. Both raise `Unavailable`."""

    states: Callable[[], Awaitable[Mapping[str, SourceState]]]
    say: Callable[[SourceState], Awaitable[None]]


async def change(
    connection: Connection, control: ControlTopic, source: str, verb: str, operator: str, reason: str | None
) -> dict[str, Any]:
    """Returns `{"source", "state", "was"}`; to say again what is so already is harmless.

    Raises `InvalidTransition`, and `Unavailable`.
    """
    state, allowed_from, _ = VERBS[verb]
    said = (await control.states()).get(source)
    before: State = said.state if said else "active"
    if before != state and before not in allowed_from:
        raise InvalidTransition(f"{source} is {before}: it can't {verb} from there")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # The audit first, and undone if the topic does not take the word: nothing happens that is not on record.
    async with connection.transaction():
        await audit.note(connection, operator, f"source.{verb}", reason, source=source, was=before)
        await control.say(SourceState(source, state, operator, reason or "", now))
    return {"source": source, "state": state, "was": before}


def describe(source: Source, said: SourceState | None) -> dict[str, Any]:
    """A source for a list: its topic, how many secrets it has, and its state."""
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
