"""A record on its way to the log: what it is made of, who waits for it, and those that leave with it. Must not send."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple, NewType, Protocol

from aiokafka.producer.message_accumulator import BatchBuilder

from ingest import metrics
from schemas.envelope import Identity, Location, VerifiedDelivery, record_headers


class Waiter(Protocol):
    """A callback for a record's outcome. Each method is called at most once, and `overdue` never after `settled`."""

    def settled(self, location: Location | None) -> None:
        """Where the record is; None where it did not get onto the log, or where nobody can say any more."""
        ...

    def overdue(self) -> None:
        """It has taken longer than anybody would wait. `settled` still comes, however late."""
        ...


class LogRecord(NamedTuple):
    """A record to append. `timestamp_ms` is the delivery's arrival."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int
    headers: list[tuple[str, bytes]]


VerifiedRecord = NewType("VerifiedRecord", LogRecord)
"""Only `record_of` makes one, and only this gets onto a source's topic (invariant 3)."""


def record_of(
    topic: str, verified: VerifiedDelivery, identity: Identity, kept_headers: Sequence[str]
) -> VerifiedRecord:
    """A verified delivery as its record."""
    delivery = verified.delivery
    headers = record_headers(verified, identity, kept_headers)
    return VerifiedRecord(LogRecord(topic, identity.record_id.encode(), delivery.body, delivery.arrived_ms, headers))


class RecordBatch:
    """Records that leave together."""

    def __init__(self, builder: BatchBuilder, topic: str, partition: int) -> None:
        self.builder = builder
        self.topic = topic
        self.partition = partition
        self.waiters: list[Waiter] = []
        self.deadline: asyncio.TimerHandle | None = None
        self.bytes = 0
        self.opened = time.monotonic()

    def put(self, record: LogRecord) -> bool:
        """False where it has no room left."""
        _, key, value, timestamp_ms, headers = record
        return self.builder.append(key=key, value=value, timestamp=timestamp_ms, headers=headers) is not None

    def settle(self, base_offset: int | None) -> None:
        """Tell each where its record is: the first at `base_offset`; None where none got onto the log."""
        topic, partition = self.topic, self.partition
        offset = base_offset or 0
        for waiter in self.waiters:
            try:
                waiter.settled(None if base_offset is None else Location(topic, partition, offset))
            except Exception:  # noqa: BLE001 - one who fails must not keep the news from the others
                metrics.handler_failed(metrics.UNKNOWN)
            offset += 1

    def say_overdue(self) -> None:
        for waiter in self.waiters:
            try:
                waiter.overdue()
            except Exception:  # noqa: BLE001 - as above
                metrics.handler_failed(metrics.UNKNOWN)
