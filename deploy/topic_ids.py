"""Kafka's ids of topics: a topic that was made anew has its old name and another id. Must not read any log.

aiokafka asks for metadata in versions that tell no ids, so the one question that is needed is written down here.
"""

import asyncio
from collections.abc import Collection
from io import BytesIO
from typing import ClassVar, Final
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from schemas.cluster import Cluster
from schemas.errors import LogUnavailable
from schemas.masking import reason_of

ASK_SECONDS: Final = 5.0
_NO_ID: Final = UUID(int=0)
_METADATA: Final = 3
_VERSION: Final = 10
"""The first that tells ids: Kafka 2.8. https://kafka.apache.org/protocol#The_Messages_Metadata"""


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Metadata(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA: ClassVar = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Metadata
    SCHEMA: ClassVar = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataStruct]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        topics: list[tuple[UUID, str, dict[int, bytes]]] = [(_NO_ID, name, {}) for name in self._topics]
        return request_struct_class(topics, False, False, False, {})


class TopicIds:
    """Asks over one client, which is made when it is first needed, and anew after a failure. Stop it at the end."""

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
        node = self._client.get_random_node()
        try:
            told = await self._client.send(node, _MetadataRequest(topics))
        except NotImplementedError:
            # What the client says where the broker does not speak this version.
            told = await self._client.send(node, MetadataRequest(list(topics), allow_auto_topic_creation=False))
            return {name: None for code, name, *_ in told.topics if code == 0}
        found = {name: topic_id for code, name, topic_id, *_ in told.topics if code == 0}
        return {name: None if topic_id == _NO_ID else topic_id for name, topic_id in found.items()}

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
