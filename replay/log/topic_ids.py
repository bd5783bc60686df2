"""Kafka's ids of topics: one that was deleted and created again has its old name and another id. Must not read any log.

aiokafka asks for metadata in versions without ids, so the one question that is needed is here.
"""

from collections.abc import Collection, Mapping
from io import BytesIO
from typing import ClassVar, Final
from uuid import UUID

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

Logs = Mapping[str, UUID | None]
"""Topic -> which log of that name offsets are of; None: not known, or a Kafka that gives no ids (before 2.8)."""

_NO_ID: Final = UUID(int=0)
_METADATA: Final = 3
_VERSION: Final = 10
"""The first that tells ids: Kafka 2.8. https://kafka.apache.org/protocol#The_Messages_Metadata"""


def is_other(known: UUID | None, now: UUID | None) -> bool:
    """True if the two are not the same log, as far as both are known."""
    return None not in (known, now) and known != now


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


async def ids_of(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, UUID | None]:
    """Those of the topics that are there; None where this Kafka gives none. Raises what the client raises."""
    # A connection without fetches: they keep the broker's answers to what comes after them back.
    node, group = client.get_random_node(), ConnectionGroup.COORDINATION
    try:
        found = await client.send(node, _MetadataRequest(topics), group=group)
    except NotImplementedError:
        # The client's error where the broker does not speak this version.
        request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
        found = await client.send(node, request, group=group)
        return {name: None for code, name, *_ in found.topics if code == 0}
    ids = {name: topic_id for code, name, topic_id, *_ in found.topics if code == 0}
    return {name: None if topic_id == _NO_ID else topic_id for name, topic_id in ids.items()}
