"""Partitions that rest at a record that the Kafka client can't read. Must not fetch, or look into records."""

import time
from collections.abc import Mapping
from typing import Final

from faust.types import TP

from processors import metrics
from processors.partition_state import Extent

ASK_AGAIN_SECONDS: Final = 5.0
"""Somebody may have deleted the record, or installed a codec and restarted a broker meanwhile."""


class UnreadablePartitions:
    """The consumer's thread writes, others read: no lock is needed.

    An unreadable fetch is repeated record by record, so that all records before the culprit are folded.
    """

    def __init__(self) -> None:
        self._places: dict[TP, int] = {}
        self._singly: set[TP] = set()
        self._ask_at: dict[TP, float] = {}

    @property
    def places(self) -> Mapping[TP, int]:
        """Partition -> the offset at which it rests."""
        return dict(self._places)

    def is_read_singly(self, tp: TP) -> bool:
        return tp in self._singly

    def resting(self) -> set[TP]:
        """Those that are not to be asked for yet."""
        now = time.monotonic()
        return {tp for tp, at in list(self._ask_at.items()) if now < at}

    def failed(self, tp: TP, offset: int, error: BaseException) -> None:
        """Reading from `offset` on. Reported once for each place."""
        if tp not in self._singly:
            self._singly.add(tp)
            return
        self._ask_at[tp] = time.monotonic() + ASK_AGAIN_SECONDS
        if self._places.get(tp) != offset:
            self._places[tp] = offset
            metrics.partition_unreadable(*tp, offset, error)

    def moved(self, tp: TP, is_whole: bool) -> None:
        """Records came. `is_whole`: all of what was fetched with them was read."""
        if is_whole:
            self._singly.discard(tp)
        self._forget(tp)

    def passed(self, extents: Mapping[TP, Extent]) -> bool:
        """Forget those whose record the log no longer holds. Returns whether there was one: it is to be sought again,
        so that the lost range is written down."""
        gone = [tp for tp, offset in self.places.items() if tp in extents and extents[tp].start > offset]
        for tp in gone:
            self._forget(tp)
        return bool(gone)

    def forget_all(self) -> None:
        """On a new assignment: somebody else may have them."""
        self._singly.clear()
        for tp in self.places:
            self._forget(tp)

    def _forget(self, tp: TP) -> None:
        self._ask_at.pop(tp, None)
        if self._places.pop(tp, None) is not None:
            metrics.partition_readable(*tp)
