"""Dead letters to Kafka: the record as it was, with the reason and its origin. Must not decide what is dead.

The dead events of one record go as one: a body may have megabytes, and hold a thousand of them.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from processors.outcome import Dead
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable
from schemas.masking import describe
from schemas.topics import DEAD_LETTER, MAX_RECORD_BYTES

PUT_SECONDS: Final = 15.0
"""The batch's transaction is open meanwhile, with its locks: a broker that is away must not hold them for long."""

STOP_SECONDS: Final = 5.0

ORIGIN_HEADERS: Final = ("redrive_origin_topic", "redrive_origin_partition", "redrive_origin_offset")
EVENTS_HEADER: Final = "redrive_origin_events"
MAX_LISTED: Final = 1000
"""Events that a header names; the index names all of them."""

OMITTED_HEADER: Final = "redrive_omitted"
"""The parts of the record that the topic did not take: the origin says where the record is."""

REFUSED: Final = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTimestampError)
"""Another try would end the same: what a broker says of a letter, and not of itself."""

_WHOLE, _WITHOUT_VALUE, _BARE = range(3)


class KafkaDeadLetters:
    """A dead letter's identity is its origin, record and event: a batch tried again may write it twice, and it still
    counts once.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Raises `LogUnavailable`."""
        await self._started()

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def put(self, letters: Sequence[Dead]) -> None:
        """Returns once all are durable. Raises `LogUnavailable`: the batch must then not be committed."""
        if not letters:
            return
        records = sorted(_by_record(letters), key=_size)
        try:
            async with asyncio.timeout(PUT_SECONDS):
                try:
                    await self._put_together(records)
                except REFUSED:
                    await self._put_one_by_one(records)
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailable(f"the dead letters could not be written: {describe(error)}") from error

    async def _put_together(self, records: Sequence[Sequence[Dead]]) -> None:
        async with self._producing() as producer:
            sent = [await self._send(producer, letters) for letters in records]
            for outcome in await asyncio.gather(*sent, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _put_one_by_one(self, records: Sequence[Sequence[Dead]]) -> None:
        """Each with as much of its record as the topic takes; from the smallest one on, so that few are refused."""
        too_large: float = math.inf
        for letters in records:
            shape = _WHOLE if _size(letters) < too_large else _WITHOUT_VALUE
            while True:
                try:
                    async with self._producing() as producer:
                        await (await self._send(producer, letters, shape))
                    break
                except REFUSED as error:
                    if shape == _BARE:
                        raise
                    if shape == _WHOLE and not isinstance(error, InvalidTimestampError):
                        too_large = _size(letters)
                    shape += 1

    @asynccontextmanager
    async def _producing(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = await self._started()
        try:
            yield producer
        except BaseException:
            if producer is self._producer:
                # A failed batch leaves a hole in an idempotent producer's sequence: all later ones would be refused.
                await self.stop()
            raise

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._cluster.client_options(),
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=MAX_RECORD_BYTES,
                )
                try:
                    await producer.start()
                except KafkaError as error:
                    await _stop(producer)
                    raise LogUnavailable(f"Kafka takes no dead letters: {describe(error)}") from error
                self._producer = producer
            return self._producer

    async def _send(
        self, producer: AIOKafkaProducer, letters: Sequence[Dead], shape: int = _WHOLE
    ) -> Awaitable[object]:
        first, raw = letters[0], letters[0].raw
        origin = f"{raw.topic}/{raw.partition}/{raw.offset}"
        headers = [
            *(() if shape == _BARE else raw.headers),
            ("redrive_reason", first.reason.encode()),
            ("redrive_error", first.message.encode("utf-8", "replace")),
            *zip(ORIGIN_HEADERS, (part.encode() for part in origin.split("/")), strict=True),
        ]
        if first.ordinal:
            ordinals = ",".join([str(letter.ordinal) for letter in letters[:MAX_LISTED]])
            headers.append((EVENTS_HEADER, ordinals.encode()))
        if shape != _WHOLE:
            headers.append((OMITTED_HEADER, b"value" if shape == _WITHOUT_VALUE else b"value, headers, timestamp"))
        sent: Awaitable[object] = await producer.send(
            DEAD_LETTER,
            raw.value if shape == _WHOLE else None,
            key=origin.encode(),
            headers=headers,
            timestamp_ms=None if shape == _BARE else raw.timestamp,
        )
        return sent


def _size(letters: Sequence[Dead]) -> int:
    raw = letters[0].raw
    return len(raw.value or b"") + sum([len(name) + len(value or b"") for name, value in raw.headers])


def _by_record(letters: Sequence[Dead]) -> Iterable[Sequence[Dead]]:
    found: dict[tuple[str, int, int], list[Dead]] = {}
    for letter in letters:
        found.setdefault((letter.raw.topic, letter.raw.partition, letter.raw.offset), []).append(letter)
    return found.values()


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop without a flush that hangs: the writers of these letters already know that they may be missing."""
    try:
        await asyncio.wait_for(producer.stop(), STOP_SECONDS)
    except (KafkaError, TimeoutError):
        with contextlib.suppress(KafkaError):
            await producer.client.close()
