"""Dead letters to Kafka: the record as it was, with the reason and its origin. Must not decide what is dead."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from processors.fold import Dead
from schemas.errors import Unavailable
from schemas.masking import describe
from schemas.topics import DEAD_LETTER

PUT_SECONDS: Final = 15.0
"""The batch's transaction is open meanwhile, with its locks: a broker that is away must not hold them for long."""

ORIGIN_HEADERS: Final = ("redrive_origin_topic", "redrive_origin_partition", "redrive_origin_offset")


class KafkaDeadLetters:
    """A dead letter's identity is its origin: a batch tried again may write it twice, and it still counts once."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def put(self, letters: Sequence[Dead]) -> None:
        """Returns once all are durable. Raises `Unavailable`: the batch must then not be committed."""
        try:
            async with asyncio.timeout(PUT_SECONDS):
                sent = [await self._send(letter) for letter in letters]
                for future in sent:
                    await future
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"the dead letters could not be written: {describe(error)}") from error

    async def _send(self, letter: Dead) -> Awaitable[object]:
        raw = letter.raw
        origin = f"{raw.topic}/{raw.partition}/{raw.offset}"
        headers = [
            *raw.headers,
            ("redrive_reason", letter.reason.encode()),
            ("redrive_error", letter.message.encode("utf-8", "replace")),
            *zip(ORIGIN_HEADERS, (part.encode() for part in origin.split("/")), strict=True),
        ]
        sent: Awaitable[object] = await self._producer.send(
            DEAD_LETTER, raw.value, key=origin.encode(), headers=headers, timestamp_ms=raw.timestamp
        )
        return sent
