"""Changes of a source's state: pause, resume, disable, enable. On record before they are in force (invariant 10).

Also the check of the sources that a query names.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, LiteralString, NamedTuple

from replay import audit
from replay.audit import Author
from replay.locks import Lock, advisory_lock
from replay.ports import Connection
from replay.selection.selection import sources_of_log
from schemas.errors import AppendInDoubt, InvalidSelection, InvalidTransition
from schemas.settings import Source
from schemas.source_state import SourceState, SourceStateName
from schemas.topics import source_of, topic_of

_TOPICS_WITH_POSITIONS: Final[LiteralString] = "SELECT DISTINCT topic FROM redrive.positions"
_SOURCES_WITHOUT_EVENTS: Final[LiteralString] = """
    SELECT name FROM unnest($1::text[]) AS name
    WHERE NOT EXISTS (SELECT FROM redrive.event_index WHERE source = name)
"""


class SourceVerb(NamedTuple):
    """The state that it brings, from which states, and what that means."""

    state: SourceStateName
    allowed_from: frozenset[SourceStateName]
    meaning: str


SourceVerbName = Literal["pause", "resume", "disable", "enable"]
VERBS: Final[dict[SourceVerbName, SourceVerb]] = {
    "pause": SourceVerb("paused", frozenset({"active"}), "Store what comes in, and fold it later: after `resume`."),
    "resume": SourceVerb("active", frozenset({"paused"}), "Fold again, from where the fold was paused."),
    "disable": SourceVerb(
        "disabled",
        frozenset({"active", "paused"}),
        "Answer 410 and store nothing: the provider's deliveries are refused.",
    ),
    "enable": SourceVerb("active", frozenset({"disabled"}), "Take deliveries again, and fold them."),
}


@dataclass(frozen=True, slots=True)
class ControlTopic:
    """The topic in which operators speak. Both raise `Unavailable`."""

    states: Callable[[], Awaitable[Mapping[str, SourceState]]]
    say: Callable[[SourceState], Awaitable[None]]


class UnknownSource(InvalidSelection):
    """No source of that name is configured."""


async def require_sources(connection: Connection, names: Collection[str], configured: Collection[str]) -> None:
    """Raises `InvalidSelection` for an unknown source: an empty result would look like no records.

    Known are the configured ones, those that were folded, and those that the index still has.
    """
    if set(names) <= set(configured):
        return
    known = {
        *sources_of_log(configured),
        *(source_of(row["topic"]) for row in await connection.fetch(_TOPICS_WITH_POSITIONS)),
    }
    if left := sorted(set(names) - known):
        unknown = ", ".join(repr(row["name"][:60]) for row in await connection.fetch(_SOURCES_WITHOUT_EVENTS, left))
        if unknown:
            raise InvalidSelection(f"no source is called {unknown}; there are: {', '.join(sorted(known))}")


class SourceChange(NamedTuple):
    """An operator's change of a source; `verb` is one of `VERBS`."""

    source: str
    verb: SourceVerbName
    author: Author


async def change(
    connection: Connection, control: ControlTopic, configured: Mapping[str, Source], wanted: SourceChange
) -> dict[str, Any]:
    """Returns `{"source", "state", "was"}`; repeating a change is harmless.

    One at a time: each change depends on the one before. Raises `UnknownSource`, `InvalidTransition`, `Unavailable`,
    and `InvalidSelection` for an author that the audit can't take.
    """
    async with advisory_lock(connection, Lock.CONTROL):
        said = (await control.states()).get(wanted.source)
        if wanted.source not in configured and (said is None or VERBS[wanted.verb].state != "active"):
            known = ", ".join(configured)
            raise UnknownSource(f"no source is called {wanted.source!r}; there are: {known}")
        return await _say(connection, control, wanted, said.state if said else "active")


async def _say(
    connection: Connection, control: ControlTopic, wanted: SourceChange, before: SourceStateName
) -> dict[str, Any]:
    source, verb, (operator, reason) = wanted
    state, allowed_from, _ = VERBS[verb]
    if before != state and before not in allowed_from:
        raise InvalidTransition(f"{source} is {before}: it can't {verb} from there")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # Committed before the topic hears it: nothing happens that is not on record.
    await audit.note(connection, operator, f"source.{verb}", reason, source=source, was=before)
    try:
        await control.say(SourceState(source, state, operator, reason or "", now))
    except BaseException as error:
        failed = {"source": source, "was": before, "outcome": audit.outcome_of(error)}
        await audit.note(connection, operator, f"source.{verb}", reason, **failed)
        if isinstance(error, AppendInDoubt):
            raise AppendInDoubt(f"{error}. {source} may be {state}: {verb} it again, which is harmless") from error
        raise
    return {"source": source, "state": state, "was": before}


def describe_all(sources: Mapping[str, Source], states: Mapping[str, SourceState]) -> Sequence[dict[str, Any]]:
    """The configured sources, then those that are not configured any more and were left paused or disabled."""
    left = sorted(name for name, said in states.items() if name not in sources and said.state != "active")
    return [_describe(name, sources.get(name), states.get(name)) for name in (*sources, *left)]


def _describe(name: str, source: Source | None, said: SourceState | None) -> dict[str, Any]:
    """A source for a list: its topic, how many secrets it has, and its state."""
    return {
        "source": name,
        "provider": source.provider.name if source else None,
        "topic": topic_of(name),
        "secrets": len(source.secrets.values) if source else 0,
        "state": said.state if said else "active",
        "since": said.at if said else None,
        "by": said.operator if said else None,
        "reason": said.reason if said else None,
    }
