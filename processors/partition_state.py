"""How far each partition was read, and how much of it waits to be folded. Must not know Kafka clients or databases."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from faust.types import TP

from processors.outcome import RawRecord

BATCHES_PER_PARTITION: Final = 2
"""One is folded, one waits."""

MAX_WAITING_BYTES: Final = 16 * 2**20
"""The limit for all partitions. The client limits one fetch: one answer of the broker, 50 MiB."""


class Extent(NamedTuple):
    """The offsets of a partition on the log: [start, end). `topic_id` identifies the log: Kafka's id of the topic. It
    changes when the topic is created again; None where this Kafka gives none.
    """

    start: int
    end: int
    topic_id: UUID | None = None


class Start(NamedTuple):
    """Where to read a partition from, and of which log."""

    offset: int
    topic_id: UUID | None = None


class Positions(Protocol):
    """Where to read from. Waits for the database as long as it takes."""

    def forget(self) -> None: ...

    async def positions(self, extents: Mapping[TP, Extent], is_confirmed: bool) -> Mapping[TP, Start]:
        """Where to read each from; without those of which the extent is to be asked again."""
        ...


@dataclass(slots=True, eq=False)
class PartitionState:
    """One partition, read without a break from a seek on.

    The consumer's thread writes `at`, `handed` and `is_over`, the fold writes `done` and `is_held`: no lock is needed.
    """

    at: int
    """The first offset that was not read."""

    topic_id: UUID | None = None
    """Kafka's id of the topic that is read; it changes when the topic is created again."""

    handed: int = 0
    handed_bytes: int = 0
    done: int = 0
    done_bytes: int = 0
    is_held: bool = False
    """Its batch fails while the database takes others: it must not count against them."""

    is_over: bool = False
    """The partition was sought again, or is no longer ours: what is left of this reading will be read again."""

    def hand_on(self, tp: TP, records: list[RawRecord]) -> "Batch":
        start, self.at = self.at, records[-1].offset + 1
        batch = Batch(tp, start, self.at, records, sum([len(one.value or b"") for one in records]), self)
        self.handed += 1
        self.handed_bytes += batch.bytes
        return batch

    def finish(self, batch: "Batch") -> None:
        self.done += 1
        self.done_bytes += batch.bytes


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records of one partition, read without a break from `start` to `end` (exclusive)."""

    tp: TP
    start: int
    end: int
    records: list[RawRecord]
    bytes: int
    reading: PartitionState


class PartitionStates:
    """The partitions that are read now. Touched by the consumer's thread alone."""

    def __init__(self) -> None:
        self._current: dict[TP, PartitionState] = {}

    def get(self, tp: TP) -> PartitionState | None:
        return self._current.get(tp)

    def begin(self, tp: TP, start: Start) -> None:
        self.end(tp)
        self._current[tp] = PartitionState(start.offset, start.topic_id)

    def end(self, tp: TP) -> None:
        ended = self._current.pop(tp, None)
        if ended is not None:
            ended.is_over = True

    def end_all(self) -> None:
        for tp in list(self._current):
            self.end(tp)

    def ready(self, partitions: Collection[TP]) -> set[TP]:
        """Those to fetch from. A partition that was not sought yet would be read from the group's offset."""
        readings = [one for one in self._current.values() if not one.is_held]
        if sum(one.handed_bytes - one.done_bytes for one in readings) >= MAX_WAITING_BYTES:
            return set()
        current = self._current
        return {
            tp for tp in partitions if tp in current and current[tp].handed - current[tp].done < BATCHES_PER_PARTITION
        }
