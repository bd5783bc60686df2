"""Kafka's ids of topics, asked over a client of its own. Must not read any log."""

import asyncio
from collections.abc import Collection
from typing import Final
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from replay.log.topic_ids import ids_of
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable
from schemas.masking import reason_of

ASK_SECONDS: Final = 5.0


class TopicIds:
    """Asks over one client, which is created when needed, and again after a failure. Stop it at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: AIOKafkaClient | None = None
        self._turn = asyncio.Lock()

    async def __call__(self, topics: Collection[str]) -> dict[str, UUID | None]:
        """The ids of those that are there; None where this Kafka gives none (before 2.8). Raises `LogUnavailable`."""
        if not topics:
            return {}
        async with self._turn:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await self._ask(topics)
            except (KafkaError, OSError, TimeoutError) as error:
                await self.stop()
                is_silent = isinstance(error, TimeoutError)
                reason = f"it has been silent for {ASK_SECONDS:g} s" if is_silent else reason_of(error)
                raise LogUnavailable(f"Kafka does not answer at {self._cluster.servers}: {reason}") from error

    async def _ask(self, topics: Collection[str]) -> dict[str, UUID | None]:
        if self._client is None:
            self._client = AIOKafkaClient(**self._cluster.client_options(), client_id="redrive-topics")
            await self._client.bootstrap()
        return await ids_of(self._client, topics)

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
