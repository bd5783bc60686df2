"""What an operator asks to re-drive, as a value. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from schemas.errors import InvalidSelection
from schemas.topics import topic_of

MAX_TEXT: Final = 1000
MAX_PAGE: Final = 500
_PAGE: Final = 50
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
class Selection:
    """[from, to) on arrival, of some sources, narrowed by type, event id or explicit offsets. None means unbounded."""

    sources: tuple[str, ...]
    from_ms: int | None = None
    to_ms: int | None = None
    type_glob: str | None = None
    event_id: str | None = None
    offsets: tuple[Range, ...] = ()

    def __post_init__(self) -> None:
        if self.from_ms is None and not self.offsets and self.event_id is None:
            raise InvalidSelection("name a window (--from … --to …), --event-id or --offsets: redrive never guesses")
        if self.event_id is not None and self.offsets:
            raise InvalidSelection("name --event-id or --offsets, not both")
        topics = {topic_of(source) for source in self.sources}
        if foreign := sorted({part.topic for part in self.offsets} - topics):
            raise InvalidSelection(f"{', '.join(foreign)} is no topic of the selected sources")
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise InvalidSelection("the window is empty: --from is not before --to")

    def holds_time(self, arrived_ms: int) -> bool:
        """Later offsets can carry earlier times, so every record of the range is asked."""
        return (self.from_ms is None or arrived_ms >= self.from_ms) and (self.to_ms is None or arrived_ms < self.to_ms)

    def holds_type(self, types: tuple[str, ...]) -> bool:
        return self.type_glob is None or any(fnmatchcase(kind, self.type_glob) for kind in types)

    def as_document(self) -> dict[str, Any]:
        """For the ledger."""
        return {
            "sources": list(self.sources),
            "from": iso_of(self.from_ms),
            "to": iso_of(self.to_ms),
            "type": self.type_glob,
            "event_id": self.event_id,
            "offsets": [f"{r.topic}:{r.partition}:{r.start}-{r.end - 1}" for r in self.offsets],
        }


def parse_offsets(text: str) -> Range:
    """`topic:partition:first-last`, both ends included, as people read offsets."""
    match = _OFFSETS.match(text)
    if match is None or int(match["first"]) > int(match["last"]):
        raise InvalidSelection(f"{text!r} is not topic:partition:first-last")
    return Range(match["topic"], int(match["partition"]), int(match["first"]), int(match["last"]) + 1)


def iso_of(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat()


def require_text(text: str | None) -> None:
    """What Postgres could not take as text names nothing. Raises `InvalidSelection`."""
    if text is not None and (len(text) > MAX_TEXT or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
        raise InvalidSelection(f"a text is longer than {MAX_TEXT} characters, or holds what is no text")


def page_limit(text: str | None) -> int:
    """How many rows of a list are asked for. Raises `InvalidSelection`."""
    found = parse_number(text or str(_PAGE), MAX_PAGE)
    if not found:
        raise InvalidSelection(f"limit is a number from 1 to {MAX_PAGE}")
    return found


def parse_number(text: str, last: int) -> int | None:
    """Digits, up to `last`: `int()` would also take signs, underscores and other scripts' numerals."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(last))
    return int(text) if is_number and int(text) <= last else None
