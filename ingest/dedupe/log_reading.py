"""The log, as the dedupe window reads it. Must not know Kafka."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol
from uuid import UUID

from ingest.dedupe.store import Partition
from ingest.dedupe.window import Content, content_of
from schemas.envelope import Location


class Seen(NamedTuple):
    """A record of the log, as the window needs it."""

    record_id: str
    fingerprint: bytes
    location: Location
    arrived_ms: int

    @property
    def content(self) -> Content:
        return content_of(self.location.topic, self.record_id, self.fingerprint)


class LogTail(Protocol):
    """The log, for reading back what the window missed."""

    def read_tail(self, positions: Mapping[Partition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        """Every record from `positions`, or where there is none from arrival `since_ms`, to the end as of now."""
        ...

    async def bounds(self) -> dict[Partition, tuple[int, int]]:
        """{partition: (log start, log end)}."""
        ...


OpenTail = Callable[[Sequence[str]], AbstractAsyncContextManager[LogTail]]
"""The tail of some topics."""

TopicIds = Callable[[Collection[str]], Awaitable[Mapping[str, UUID | None]]]
"""Kafka's ids of those of these topics that are there; None where this Kafka gives none. Raises `Unavailable`."""
