"""The log, as the dedupe window reads it. Must not know Kafka."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from ingest.dedupe.window import Content, content_of
from schemas.envelope import Location
from schemas.topics import TopicPartition


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

    def read_tail(self, positions: Mapping[TopicPartition, int], since_ms: int) -> AsyncIterator[Sequence[Seen]]:
        """Every record from `positions`, or where there is none from arrival `since_ms`, to the end as of now."""
        ...

    async def bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        """{partition: (log start, log end)}."""
        ...


OpenTail = Callable[[Sequence[str]], AbstractAsyncContextManager[LogTail]]
"""The tail of some topics."""
