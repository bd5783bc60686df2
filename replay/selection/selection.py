"""An operator's selection: one document for flags, the API and the ledger. Must not read the log."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    ValidationError,
    model_validator,
)

from replay.faults import first_fault
from replay.selection.patterns import require_window
from replay.selection.times import moment_of, parse_time
from schemas import corrections
from schemas.errors import InvalidSelection
from schemas.topics import topic_of

MAX_TEXT: Final = 1000
MAX_PAGE: Final = 500
MAX_VALUES: Final = 1000
"""The limit of values of one criterion, and of selections of a union."""

T = TypeVar("T")
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


def parse_offsets(text: object) -> Range:
    """`topic:partition:first-last`, both ends included, as people read offsets. Raises `InvalidSelection`."""
    match = _OFFSETS.match(text) if isinstance(text, str) else None
    if match is None or int(match["first"]) > int(match["last"]):
        raise InvalidSelection(f"{text!r} is not topic:partition:first-last")
    return Range(match["topic"], int(match["partition"]), int(match["first"]), int(match["last"]) + 1)


def is_storable(text: str) -> bool:
    """True if Postgres takes it as text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _moment(value: object) -> int:
    if isinstance(value, str):
        return parse_time(value)
    raise ValueError("expected a text: RFC 3339, or '2h ago'")


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("contains characters that can't be stored (NUL, lone surrogates)")
    return text


def as_list(value: object) -> object:
    """Turn one value into a list of one."""
    return [value] if isinstance(value, str) else value


def _as_keys(value: object) -> object:
    return [value] if isinstance(value, list | tuple) and value and isinstance(value[0], str) else value


Text = Annotated[str, Field(strict=True, max_length=MAX_TEXT), AfterValidator(_storable)]
Timestamp = Annotated[int, BeforeValidator(_moment, json_schema_input_type=str)]
"""RFC 3339, or relative like `2h ago`; parsed, milliseconds since the epoch."""

# A strict model would refuse the list as a tuple.
_Several = Annotated[tuple[T, ...], Field(strict=False, max_length=MAX_VALUES), BeforeValidator(as_list)]
_Offsets = Annotated[Range, PlainValidator(parse_offsets, json_schema_input_type=str)]
_Key = Annotated[tuple[Text, ...], Field(strict=False, min_length=2)]


def _named(plural: str, singular: str) -> Any:
    """The flag's name works, too."""
    return Field(default=(), validation_alias=AliasChoices(plural, singular))


class Selection(BaseModel):
    """A window [from, to), narrowed by what else is named; or, with `any` alone, a union of such selections.

    Times are RFC 3339, or relative like `2h ago`. `keys` are rows of read models: `["accounts", "stripe", "cus_1"]`.
    Several values of one criterion widen it, several criteria narrow one another. Null and empty mean unbounded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: _Several[Text] = _named("sources", "source")
    from_ms: Timestamp | None = Field(None, alias="from")
    to_ms: Timestamp | None = Field(None, alias="to")
    by: By = "arrival"
    types: _Several[Text] = _named("types", "type")
    event_ids: _Several[Text] = _named("event_ids", "event_id")
    offsets: _Several[_Offsets] = ()
    dead_letters: StrictBool = False
    keys: Annotated[_Several[_Key], BeforeValidator(_as_keys)] = _named("keys", "key")
    any: _Several["Selection"] = ()

    @model_validator(mode="after")
    def _require_sense(self) -> Self:
        self.require_sense()
        return self

    def require_sense(self) -> None:
        """Check the rules that hold between criteria. Raises `InvalidSelection`."""
        if self.any:
            if self.model_fields_set & Selection.model_fields.keys() != {"any"}:
                raise InvalidSelection("a union has no criteria of its own: give them to its selections")
            if [one for one in self.any if one.any]:
                raise InvalidSelection("a union is of selections, none of them a union")
            return
        if self.from_ms is None and not self.has_locations:
            raise InvalidSelection(
                "name a window (from … to …), event ids, offsets, dead letters or a key: redrive never guesses"
            )
        if self.sources and (foreign := sorted({part.topic for part in self.offsets}.difference(self.topics))):
            raise InvalidSelection(f"not a topic of the selected sources: {', '.join(foreign)}")
        require_window(self.from_ms, self.to_ms)
        if self.by == "event" and self.from_ms is None and self.to_ms is None:
            raise InvalidSelection("by event says whose clock a window is on: name from or to")

    def among(self, configured: Iterable[str]) -> "Selection":
        """Check its sources, and name all configured ones if it names none. Raises `InvalidSelection`."""
        known = tuple(configured)
        if self.any:
            return Selection.model_construct(any=tuple([one.among(known) for one in self.any]))
        require_known(self.sources, known)
        named = {name: getattr(self, name) for name in Selection.model_fields}
        found = Selection.model_construct(**named | {"sources": tuple(dict.fromkeys(self.sources)) or known})
        found.require_sense()
        return found

    @property
    def choices(self) -> tuple["Selection", ...]:
        """The selections of a union; any other selection is its own only choice."""
        return self.any or (self,)

    @property
    def has_locations(self) -> bool:
        """True if the offsets are known before the log is read, rather than a window of it."""
        return bool(self.event_ids or self.offsets or self.dead_letters or self.keys)

    @property
    def topics(self) -> list[str]:
        return [topic_of(source) for source in self.sources]

    def holds_time(self, moment_ms: int) -> bool:
        """Later offsets can carry earlier times, so every record of the range is asked."""
        return (self.from_ms is None or moment_ms >= self.from_ms) and (self.to_ms is None or moment_ms < self.to_ms)

    def holds_type(self, types: Sequence[str]) -> bool:
        return not self.types or any(fnmatchcase(kind, glob) for kind in types for glob in self.types)

    def as_document(self) -> dict[str, Any]:
        """For the ledger and the API; `stored_selection` reads it back."""
        if self.any:
            return {"any": [one.as_document() for one in self.any]}
        return {
            "sources": list(self.sources),
            "from": iso_of(self.from_ms),
            "to": iso_of(self.to_ms),
            "by": self.by,
            "types": list(self.types),
            "event_ids": list(self.event_ids),
            "offsets": [f"{r.topic}:{r.partition}:{r.start}-{r.end - 1}" for r in self.offsets],
            "dead_letters": self.dead_letters,
            "keys": [list(key) for key in self.keys],
        }


def sources_of_log(configured: Iterable[str]) -> tuple[str, ...]:
    """The sources that a selection may name. Corrections are part of the log."""
    return (*configured, corrections.SOURCE)


def require_known(sources: Iterable[str], known: Collection[str]) -> None:
    """Raises `InvalidSelection`."""
    if unknown := sorted(set(sources).difference(known)):
        names = ", ".join([repr(source[:60]) for source in unknown])
        raise InvalidSelection(f"no source is called {names}; there are: {', '.join(known) or 'none'}")


def parse_selection(document: object, configured: Iterable[str]) -> Selection:
    """`configured` are the existing sources, and those of a selection that names none.

    Raises `InvalidSelection`.
    """
    return stored_selection(document).among(configured)


def stored_selection(document: object) -> Selection:
    """As the ledger keeps it: its sources may no longer be configured.

    Raises `InvalidSelection`.
    """
    try:
        return Selection.model_validate(document)
    except ValidationError as error:
        raise InvalidSelection(f"invalid selection: {first_fault(error)}") from error


def iso_of(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else moment_of(moment_ms).isoformat()


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
