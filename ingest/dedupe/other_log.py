"""Signs that a log is not the one that the dedupe window knows: Kafka came back with older data, under the same ids."""

from array import array
from collections.abc import Mapping
from typing import Final

from ingest import metrics
from ingest.dedupe.table_lock import WindowHeld
from ingest.dedupe.window import DedupeWindow
from schemas.envelope import Location
from schemas.topics import QUARANTINE, TopicPartition

_PAGE_BITS: Final = 12
_TAG_BYTES: Final = 4


class AckedEnds:
    """One process's appends: Kafka acknowledges those to a partition in the order of their offsets. An offset that it
    gave before proves that the log has lost its tail, and then the window of the topic holds what is on no log.
    """

    def __init__(self, window: DedupeWindow) -> None:
        self._window = window
        self._ends: dict[TopicPartition, int] = {}
        self._eras: dict[str, int] = {}
        """As they were when the ends of a topic began."""

    def add(self, topic: str, partition: int, offset: int, records: int) -> None:
        if topic == QUARANTINE:
            return
        try:
            at, era = (topic, partition), self._window.era(topic)
        except WindowHeld:
            # Its first batch: what comes later has an era.
            return
        if era != self._eras.get(topic):
            # Somebody else saw it before us, or it is another topic now.
            self._begin_again(topic)
        elif offset < self._ends.get(at, offset):
            metrics.window_void([topic])
            self._window.forget(topic)
            self._begin_again(topic)
        self._ends[at] = offset + records

    def _begin_again(self, topic: str) -> None:
        self._eras[topic] = self._window.era(topic)
        for at in [at for at in self._ends if at[0] == topic]:
            del self._ends[at]


class Places:
    """Which saved record is at which offset, in four bytes each. Two at one place were on two logs."""

    def __init__(self) -> None:
        self.pages: dict[tuple[TopicPartition, int], array[int]] = {}

    def put(self, location: Location, key: bytes) -> None:
        page_number, at = divmod(location.offset, 1 << _PAGE_BITS)
        page = self.pages.get(((location.topic, location.partition), page_number))
        if page is None:
            page = array("I", bytes(_TAG_BYTES << _PAGE_BITS))
            self.pages[(location.topic, location.partition), page_number] = page
        page[at] = _tag(key)

    def is_free_for(self, location: Location, key: bytes) -> bool:
        """True if no other record was there. Takes no memory: a log may be much longer than the saved window."""
        page_number, at = divmod(location.offset, 1 << _PAGE_BITS)
        page = self.pages.get(((location.topic, location.partition), page_number))
        return page is None or page[at] in (0, _tag(key))


def _tag(key: bytes) -> int:
    """Never 0: no record's tag is 0."""
    return int.from_bytes(key[:_TAG_BYTES]) | 1


class Comparison:
    """While the window is loaded: what is saved, beside what is on the log now."""

    def __init__(self) -> None:
        self.is_other_log = False
        self._newest: dict[TopicPartition, int] = {}
        self.places = Places()

    def saved(self, location: Location, key: bytes) -> None:
        at = (location.topic, location.partition)
        self._newest[at] = max(location.offset, self._newest.get(at, 0))
        self.found(location, key)
        self.places.put(location, key)

    def found(self, location: Location, key: bytes) -> None:
        self.is_other_log |= not self.places.is_free_for(location, key)

    def starts(
        self, positions: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]
    ) -> dict[TopicPartition, int]:
        """Where to read on, with the last saved record of each partition: it must be there."""
        return {
            at: min(offset, max(self._newest.get(at, offset), bounds[at][0]))
            for at, offset in positions.items()
            if at in bounds and offset <= bounds[at][1]
        }


def shortened(known: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]) -> set[str]:
    """Topics with a partition that ends before what is known of it."""
    return {at[0] for at, end in known.items() if at in bounds and end > bounds[at][1]}
