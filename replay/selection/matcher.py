"""Which records of the ranges a selection means. Pure: the offsets that it rests on were looked up before."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from processors.outcome import Folded, RawRecord
from replay.selection.offsets import Offsets, decode, encode
from replay.selection.selection import By, Selection
from replay.selection.times import in_ms

BATCH_SUFFIX: Final = ".batch"

Fold = Callable[[RawRecord], Folded]


def type_of(record: RawRecord) -> str:
    """A record's CloudEvents type, without reading its body."""
    return _header(record, "ce_type") or "unknown"


def _header(record: RawRecord, wanted: str) -> str | None:
    for name, value in record.headers:
        if name == wanted and value is not None:
            return value.decode("utf-8", "replace")
    return None


def _moment_of(record: RawRecord, by: By) -> int:
    """Milliseconds. A record without a time of its provider has that of its arrival."""
    if by == "event":
        try:
            return in_ms(datetime.fromisoformat(_header(record, "ce_time") or ""))
        except (ValueError, TypeError):
            # None, an invalid time, or one without a zone.
            pass
    return record.timestamp


class _Choice:
    """One selection of a union, with the only offsets that it can mean; None where a window is read through."""

    def __init__(self, selection: Selection, candidates: Offsets | None) -> None:
        self.selection = selection
        self.candidates = candidates
        self._topics = frozenset(selection.topics)
        self._has_window = selection.from_ms is not None or selection.to_ms is not None

    def holds(self, record: RawRecord) -> bool | None:
        """None: only its events can tell. A batch belongs if one of its events does."""
        selection = self.selection
        if record.topic not in self._topics:
            return False
        if self._has_window and not selection.holds_time(_moment_of(record, selection.by)):
            return False
        if self.candidates is not None and not self.candidates.holds(record.topic, record.partition, record.offset):
            return False
        if not selection.types:
            return True
        kind = type_of(record)
        return True if selection.holds_type((kind,)) else None if kind.endswith(BATCH_SUFFIX) else False


class Matcher:
    """A selection with its candidates pinned: it means the same records whenever it is asked.

    `choices`: each selection of a union, with the only offsets that it can mean; None where a window is read through.
    """

    def __init__(self, choices: Iterable[tuple[Selection, Offsets | None]]) -> None:
        self._choices = [_Choice(selection, candidates) for selection, candidates in choices]

    @classmethod
    def pinned(cls, selection: Selection, document: Sequence[Mapping[str, Any] | None]) -> "Matcher":
        """As it was planned: `document` is what `as_document` gave."""
        candidates = [None if one is None else Offsets(decode(one)) for one in document]
        return cls(zip(selection.choices, candidates, strict=True))

    def holds(self, record: RawRecord) -> bool | None:
        found: bool | None = False
        for choice in self._choices:
            held = choice.holds(record)
            if held:
                return True
            if held is None:
                found = None
        return found

    def holds_folded(self, record: RawRecord, folded: Folded) -> bool:
        """For a record of which `holds` could not tell."""
        return any(
            choice.holds(record) is None and choice.selection.holds_type(folded.types) for choice in self._choices
        )

    def is_selected(self, record: RawRecord, fold: Fold) -> bool:
        held = self.holds(record)
        return self.holds_folded(record, fold(record)) if held is None else held

    def as_document(self) -> list[dict[str, list[int]] | None]:
        return [None if one.candidates is None else encode(one.candidates.ranges) for one in self._choices]
