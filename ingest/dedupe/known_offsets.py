"""How much of each partition of the log the dedupe window knows. Must not read the log."""

import time
from collections.abc import Mapping
from typing import Final

from schemas.envelope import Location
from schemas.topics import TopicPartition

MAX_BEYOND_GAP: Final = 50_000
_UNFOLLOWED: Final = 2**63
"""The offset for a partition that belongs to another host alone: nothing of it needs to be known."""


class KnownOffsets:
    """The offsets below which every record of a partition is known, and what is known beyond them."""

    def __init__(self) -> None:
        self.to: dict[TopicPartition, int] = {}
        self._beyond: dict[TopicPartition, set[int]] = {}
        self._gap_since: dict[TopicPartition, float] = {}

    def set(self, ends: Mapping[TopicPartition, int]) -> None:
        for at, end in ends.items():
            self.to[at] = max(self.to.get(at, 0), end)
            self._beyond[at] = {offset for offset in self._beyond.get(at, ()) if offset >= self.to[at]}
            self._close(at)

    def forget(self, topic: str) -> None:
        """Forget a topic that was created again: it has other offsets now."""
        for known in (self.to, self._beyond, self._gap_since):
            for at in [at for at in known if at[0] == topic]:
                del known[at]

    def ends(self) -> dict[TopicPartition, int]:
        """How far each of them reaches at least."""
        return {at: max([to, *(offset + 1 for offset in self._beyond.get(at, ()))]) for at, to in self.to.items()}

    def follows(self, topic: str) -> bool:
        return any(followed == topic for followed, _ in self.to)

    def add(self, location: Location) -> None:
        at = (location.topic, location.partition)
        if location.offset < self.to.get(at, _UNFOLLOWED):
            return
        beyond = self._beyond.setdefault(at, set())
        beyond.add(location.offset)
        self._close(at)

    def _close(self, at: TopicPartition) -> None:
        beyond, offset = self._beyond[at], self.to.get(at, 0)
        start = offset
        while offset in beyond:
            beyond.remove(offset)
            offset += 1
        self.to[at] = offset
        if not beyond:
            self._gap_since.pop(at, None)
        elif offset > start or at not in self._gap_since:
            self._gap_since[at] = time.monotonic()

    def gaps(self, before: float) -> list[TopicPartition]:
        """The gaps that are older than that, or have much beyond them."""
        return [at for at, since in self._gap_since.items() if since < before or len(self._beyond[at]) > MAX_BEYOND_GAP]
