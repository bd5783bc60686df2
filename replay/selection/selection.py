"""An operator's selection, as a value. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from replay.selection.times import moment_of
from schemas.errors import InvalidSelection
from schemas.topics import topic_of

MAX_TEXT: Final = 1000
MAX_PAGE: Final = 500
MAX_VALUES: Final = 1000
"""The limit of values of one criterion, and of selections of a union."""

By = Literal["arrival", "event"]
"""Whose clock a window is on: the ingress's, or the provider's."""

_OFFSETS: Final = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]+):(?P<partition>\d{1,9}):(?P<first>\d{1,18})-(?P<last>\d{1,18})\Z", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Range:
    """[start, end) of a partition."""

    topic: str
    partition: int
    start: int
    end: int

    def __len__(self) -> int:
        return max(self.end - self.start, 0)


@dataclass(frozen=True, slots=True)
class RowKey:
    """A row of a read model, by its key."""

    model: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """[from, to) of some sources, narrowed by what else is named; or a union of such selections.

    Several values of one criterion widen it, several criteria narrow one another. None and empty mean unbounded.
    """

    sources: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None
    by: By = "arrival"
    types: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    offsets: tuple[Range, ...] = ()
    is_dead: bool = False
    """Only what the index holds as dead."""
    keys: tuple[RowKey, ...] = ()
    any_of: tuple["Selection", ...] = ()

    def __post_init__(self) -> None:
        if self.any_of:
            self._require_union()
            return
        if self.from_ms is None and not self.has_locations:
            raise InvalidSelection(
                "name a window (from … to …), event ids, offsets, dead letters or a key: redrive never guesses"
            )
        topics = {topic_of(source) for source in self.sources}
        if foreign := sorted({part.topic for part in self.offsets} - topics):
            raise InvalidSelection(f"not a topic of the selected sources: {', '.join(foreign)}")
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise InvalidSelection("the window is empty: from is not before to")
        if self.by == "event" and self.from_ms is None and self.to_ms is None:
            raise InvalidSelection("by event says whose clock a window is on: name from or to")
        values = (self.sources, self.types, self.event_ids, self.offsets, self.keys)
        if any(len(one) > MAX_VALUES for one in values):
            raise InvalidSelection(f"more than {MAX_VALUES} values of one kind")
        for text in (*self.types, *self.event_ids, *(text for key in self.keys for text in (key.model, *key.values))):
            require_text(text)

    def _require_union(self) -> None:
        named = (self.sources, self.types, self.event_ids, self.offsets, self.is_dead, self.keys)
        if any(named) or self.from_ms is not None or self.to_ms is not None:
            raise InvalidSelection("a union has no criteria of its own: give them to its selections")
        if len(self.any_of) > MAX_VALUES or any(one.any_of for one in self.any_of):
            raise InvalidSelection(f"a union is of up to {MAX_VALUES} selections, none of them a union")

    @property
    def choices(self) -> tuple["Selection", ...]:
        """The selections of a union; any other selection is its own only choice."""
        return self.any_of or (self,)

    @property
    def has_locations(self) -> bool:
        """True if the offsets are known before the log is read, rather than a window of it."""
        return bool(self.event_ids or self.offsets or self.is_dead or self.keys)

    @property
    def topics(self) -> list[str]:
        return [topic_of(source) for source in self.sources]

    def holds_time(self, moment_ms: int) -> bool:
        """Later offsets can carry earlier times, so every record of the range is asked."""
        return (self.from_ms is None or moment_ms >= self.from_ms) and (self.to_ms is None or moment_ms < self.to_ms)

    def holds_type(self, types: Sequence[str]) -> bool:
        return not self.types or any(fnmatchcase(kind, glob) for kind in types for glob in self.types)

    def as_document(self) -> dict[str, Any]:
        """For the ledger and the API; `selection_document.parse_selection` reads it back."""
        if self.any_of:
            return {"any": [one.as_document() for one in self.any_of]}
        return {
            "sources": list(self.sources),
            "from": iso_of(self.from_ms),
            "to": iso_of(self.to_ms),
            "by": self.by,
            "types": list(self.types),
            "event_ids": list(self.event_ids),
            "offsets": [f"{r.topic}:{r.partition}:{r.start}-{r.end - 1}" for r in self.offsets],
            "dead_letters": self.is_dead,
            "keys": [[key.model, *key.values] for key in self.keys],
        }


def parse_offsets(text: str) -> Range:
    """`topic:partition:first-last`, both ends included, as people read offsets."""
    match = _OFFSETS.match(text)
    if match is None or int(match["first"]) > int(match["last"]):
        raise InvalidSelection(f"{text!r} is not topic:partition:first-last")
    return Range(match["topic"], int(match["partition"]), int(match["first"]), int(match["last"]) + 1)


def iso_of(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else moment_of(moment_ms).isoformat()


def is_storable(text: str) -> bool:
    """True if Postgres takes it as text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def require_text(text: str | None) -> None:
    """Check that Postgres can store a text. Raises `InvalidSelection`."""
    if text is not None and (len(text) > MAX_TEXT or not is_storable(text)):
        raise InvalidSelection(
            f"a value is longer than {MAX_TEXT} characters, or can't be stored (NUL, lone surrogates)"
        )


def parse_number(text: str, last: int) -> int | None:
    """Digits, up to `last`: `int()` would also take signs, underscores and other scripts' numerals."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(last))
    return int(text) if is_number and int(text) <= last else None
