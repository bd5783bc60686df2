"""Records copied into another topic of the cluster: key, value, headers and timestamp as they are, and where they are
from. Must not look at what they say.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from replay.ports import SendResult
from schemas.errors import Unavailable
from schemas.masking import reason_of

REPLAY_HEADER: Final = "redrive_replay"
ORIGIN_HEADER: Final = "redrive_origin"
_DELIVERED: Final = SendResult("delivered")


class Size(NamedTuple):
    """The size of a topic. `max_bytes`: the largest batch that it takes."""

    partitions: int
    max_bytes: int


Producing = Callable[[Size], AbstractAsyncContextManager[AIOKafkaProducer]]
"""A producer of batches that the topic takes."""


class TopicSender:
    """A replay's target on Kafka."""

    portion: Final = None

    def __init__(self, topic: str, replay: str, find_size: Callable[[], Awaitable[Size]], producing: Producing) -> None:
        self._topic = topic
        self._replay = (REPLAY_HEADER, replay.encode())
        self._find_size = find_size
        self._producing = producing
        self._size = Size(1, 0)
        self._open = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Raises `InvalidSelection` for a topic that there is not."""
        await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await self._discard(self._producer)

    async def take(self, records: Sequence[Any]) -> Sequence[SendResult]:
        """Returns once all of them are durable. Raises `Unavailable`."""
        taken = [_DELIVERED] * len(records)
        producer = await self._started()
        try:
            sent = [
                await producer.send_batch(batch, self._topic, partition=partition)
                for partition, batch in self._batches(producer, records, taken)
            ]
            for one in sent:
                await one
        except KafkaError as error:
            # A batch of an idempotent producer that failed for good leaves a gap that the broker takes nothing behind.
            await self._discard(producer)
            raise Unavailable(f"Kafka did not take the copies into {self._topic}: {reason_of(error)}") from error
        return taken

    async def _started(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                self._size = await self._find_size()
                self._producer = await self._open.enter_async_context(self._producing(self._size))
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer) -> None:
        async with self._opening:
            if self._producer is producer:
                self._producer = None
                await self._open.aclose()

    def _batches(
        self, producer: AIOKafkaProducer, records: Sequence[Any], taken: list[SendResult]
    ) -> Iterator[tuple[int, BatchBuilder]]:
        """In order, with their partitions: as few as take the records, which come a partition at a time.

        A record that is too large for the topic is noted as failed. One travels while the next is filled.
        """
        filled: tuple[int, BatchBuilder] | None = None
        place: tuple[str, int] | None = None
        prefix, mine = b"", self._replay
        append: Callable[..., object] | None = None
        for index, record in enumerate(records):
            if (record.topic, record.partition) != place:
                place, append = (record.topic, record.partition), None
                prefix = b"%s/%d/" % (record.topic.encode(), record.partition)
            headers = [*record.headers, mine, (ORIGIN_HEADER, b"%s%d" % (prefix, record.offset))]
            if append is not None and append(
                timestamp=record.timestamp, key=record.key, value=record.value, headers=headers
            ):
                continue
            if filled is not None:
                yield filled
            filled, batch = None, producer.create_batch()
            # The first of a batch is always taken, whatever its size.
            batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=headers)
            if batch.size() > self._size.max_bytes:
                taken[index] = SendResult("failed", None, 0, f"larger than {self._topic} takes: its max.message.bytes")
                append = None
            else:
                filled = (record.partition % self._size.partitions, batch)
                append = batch.append
        if filled is not None:
            yield filled
