"""Dead letters to Kafka: the record as it was, with the reason and its origin. Must not decide what is dead.

The dead events of one record go as one: a body may have megabytes, and hold a thousand of them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from processors.outcome import Dead
from schemas.errors import Unavailable
from schemas.masking import describe
from schemas.topics import DEAD_LETTER

PUT_SECONDS: Final = 15.0
"""The batch's transaction is open meanwhile, with its locks: a broker that is away must not hold them for long."""

STOP_SECONDS: Final = 5.0

ORIGIN_HEADERS: Final = ("redrive_origin_topic", "redrive_origin_partition", "redrive_origin_offset")
EVENTS_HEADER: Final = "redrive_origin_events"
MAX_LISTED: Final = 1000
"""Events that a header names; the index names all of them."""


class KafkaDeadLetters:
    """A dead letter's identity is its origin, record and event: a batch tried again may write it twice, and it still
    counts once.
    """

    def __init__(self, make_producer: Callable[[], AIOKafkaProducer]) -> None:
        self._make_producer = make_producer
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Raises `Unavailable`."""
        await self._started()

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def put(self, letters: Sequence[Dead]) -> None:
        """Returns once all are durable. Raises `Unavailable`: the batch must then not be committed."""
        if not letters:
            return
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(PUT_SECONDS):
                producer = await self._started()
                sent = [await self._send(producer, of_record) for of_record in _by_record(letters)]
                for future in sent:
                    await future
        except (KafkaError, TimeoutError) as error:
            if producer is not None and producer is self._producer:
                # A failed batch leaves a hole in an idempotent producer's sequence: all later ones would be refused.
                await self.stop()
            raise Unavailable(f"the dead letters could not be written: {describe(error)}") from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = self._make_producer()
                try:
                    await producer.start()
                except KafkaError as error:
                    await _stop(producer)
                    raise Unavailable(f"Kafka takes no dead letters: {describe(error)}") from error
                self._producer = producer
            return self._producer

    async def _send(self, producer: AIOKafkaProducer, letters: Sequence[Dead]) -> Awaitable[object]:
        first, raw = letters[0], letters[0].raw
        origin = f"{raw.topic}/{raw.partition}/{raw.offset}"
        headers = [
            *raw.headers,
            ("redrive_reason", first.reason.encode()),
            ("redrive_error", first.message.encode("utf-8", "replace")),
            *zip(ORIGIN_HEADERS, (part.encode() for part in origin.split("/")), strict=True),
        ]
        if first.ordinal:
            ordinals = ",".join([str(letter.ordinal) for letter in letters[:MAX_LISTED]])
            headers.append((EVENTS_HEADER, ordinals.encode()))
        sent: Awaitable[object] = await producer.send(
            DEAD_LETTER, raw.value, key=origin.encode(), headers=headers, timestamp_ms=raw.timestamp
        )
        return sent


def _by_record(letters: Sequence[Dead]) -> Iterable[Sequence[Dead]]:
    found: dict[tuple[str, int, int], list[Dead]] = {}
    for letter in letters:
        found.setdefault((letter.raw.topic, letter.raw.partition, letter.raw.offset), []).append(letter)
    return found.values()


async def _stop(producer: AIOKafkaProducer) -> None:
    """Without the flush where that hangs: who waits for the letters was told that they may be missing."""
    try:
        await asyncio.wait_for(producer.stop(), STOP_SECONDS)
    except (KafkaError, TimeoutError):
        with contextlib.suppress(KafkaError):
            await producer.client.close()
