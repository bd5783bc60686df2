"""Entries of the dedupe window on their way from or to the disk. Must not look into them."""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

NameT = TypeVar("NameT", bound=Hashable)
_PIECE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class _Piece:
    entries: bytearray = field(default_factory=bytearray)
    newest: int = 0
    """How many additions there had been with its last one."""


class NewestEntries(Generic[NameT]):
    """By name, at most `max_bytes` of them all: where there are more, the oldest leave."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._added = 0
        self._pieces: dict[NameT, deque[_Piece]] = {}

    def add(self, name: NameT, entries: bytes) -> None:
        """Whole entries: those that leave leave from the front, as many bytes as came too many."""
        pieces = self._pieces.setdefault(name, deque())
        if not pieces or len(pieces[-1].entries) >= _PIECE_BYTES:
            pieces.append(_Piece())
        self._added += 1
        pieces[-1].newest = self._added
        pieces[-1].entries += entries
        self._bytes += len(entries)
        while self._bytes > self._max_bytes:
            self._drop_oldest(self._bytes - self._max_bytes)

    def _drop_oldest(self, excess: int) -> None:
        """Up to a piece of them."""
        name = min(self._pieces, key=lambda one: self._pieces[one][0].newest)
        oldest = self._pieces[name][0].entries
        self._bytes -= min(excess, len(oldest))
        del oldest[:excess]
        if not oldest:
            self._pieces[name].popleft()
        if not self._pieces[name]:
            del self._pieces[name]

    def add_all(self, others: "NewestEntries[NameT]") -> None:
        """They are newer."""
        for name, entries in others.items():
            self.add(name, entries)

    def forget(self, name: NameT) -> None:
        self._bytes -= sum([len(piece.entries) for piece in self._pieces.pop(name, ())])

    def names(self) -> list[NameT]:
        return list(self._pieces)

    def items(self) -> Iterable[tuple[NameT, bytes]]:
        """The remaining entries of each name, in the order of their addition."""
        return [(name, b"".join([piece.entries for piece in pieces])) for name, pieces in self._pieces.items()]

    def __len__(self) -> int:
        """In bytes."""
        return self._bytes
