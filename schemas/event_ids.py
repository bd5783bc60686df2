"""Event ids as people have them: the one answer to which ids of the index a text may mean. Pure.

The index holds the parts of an id percent-encoded and joined with `:`. A provider shows `wamid.HBg…==`, and a URL of
the console the escapes of the escapes.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final
from urllib.parse import unquote

from schemas.providers.base import event_id

MAX_SEPARATORS: Final = 6
"""An id has up to six parts (HubSpot's). In a text with more colons each of them separates, or none does."""


def readings(text: str) -> tuple[tuple[str, ...], ...]:
    """The ids of the index that may be meant, the likelier reading first: the text is an id as it is stored or as its
    provider shows it; it came with spaces around it, or its escapes were escaped or are in lower case. A later reading
    counts where the index holds nothing of the earlier ones.
    """
    bare = text.strip()
    return tuple(_ids(one) for one in dict.fromkeys((text, bare, unquote(bare))))


def spellings(text: str) -> tuple[str, ...]:
    """All of them, for a search."""
    return tuple(dict.fromkeys(one for reading in readings(text) for one in reading))


def _ids(text: str) -> tuple[str, ...]:
    # Postgres takes no U+0000, and no id is stored with one.
    stored = () if "\0" in text else (text,)
    return tuple(dict.fromkeys((*stored, *(event_id(*parts) for parts in _parts(text)))))


def decoded_key(key: Sequence[str]) -> tuple[str, ...] | None:
    """A row's key that was given in the spelling of the index; None where nothing in it is escaped. Rows hold what the
    provider sends, so the key as it was given comes first.
    """
    found = tuple(unquote(part) for part in key)
    return None if found == tuple(key) or any("\0" in part for part in found) else found


def _parts(text: str) -> Iterator[list[str]]:
    """Every way to read the colons: as separators, or as characters of a part."""
    pieces = text.split(":")
    gaps = len(pieces) - 1
    ways = product((":", None), repeat=gaps) if gaps <= MAX_SEPARATORS else ((":",) * gaps, (None,) * gaps)
    for way in ways:
        parts = [pieces[0]]
        for glue, piece in zip(way, pieces[1:], strict=True):
            if glue is None:
                parts.append(piece)
            else:
                parts[-1] += glue + piece
        yield parts
