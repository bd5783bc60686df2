"""Selections of tests, made from their documents as every other is."""

from collections.abc import Sequence
from typing import Any

from replay.selection.selection import Selection, iso_of, parse_selection


def selected(
    sources: Sequence[str], from_ms: int | None = None, to_ms: int | None = None, **criteria: Any
) -> Selection:
    """Of these sources, which are all that there are. Moments are milliseconds since the epoch."""
    document = {"sources": sources, "from": iso_of(from_ms), "to": iso_of(to_ms), **criteria}
    return parse_selection({name: value for name, value in document.items() if value}, sources)


def any_of(*selections: Selection) -> Selection:
    sources = [source for one in selections for source in one.sources]
    return parse_selection({"any": [one.as_document() for one in selections]}, sources)
