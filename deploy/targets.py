"""Opens the target of a replay from its document: the one that the ledger holds, so that any process opens the same."""

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from deploy.operator_log import producing
from deploy.topics import Topics
from deploy.wiring import Runtime
from ingest.log.producer import MAX_BATCH_BYTES
from replay.targets.addresses import AllowedResolver
from replay.targets.document import HttpTarget, TargetDocument, TopicTarget
from replay.targets.http import HttpSender
from replay.targets.topic import Size, TopicSender
from schemas.cluster import Cluster
from schemas.errors import InvalidSelection
from schemas.limits import Network
from schemas.topics import MAX_RECORD_BYTES


async def require_target(runtime: Runtime, target: TargetDocument | None) -> dict[str, Any] | None:
    """Before a replay is planned for it: what can be known now. Returns what the ledger keeps.

    Raises `InvalidSelection` or `Unavailable`.
    """
    if target is None:
        return None
    if isinstance(target, TopicTarget):
        await _size_of(runtime.cluster(), target.topic)
    else:
        _secrets(runtime, target)
        await AllowedResolver(_allowed(runtime)).require_planned(target.host)
    return target.as_document()


def open_target(runtime: Runtime, target: TargetDocument, replay: str) -> TopicSender | HttpSender:
    """To be entered, where `InvalidSelection` or `Unavailable` may be raised again. Raises `InvalidSelection`."""
    if isinstance(target, HttpTarget):
        return HttpSender(target, replay, AllowedResolver(_allowed(runtime)), _secrets(runtime, target))
    cluster = runtime.cluster()
    return TopicSender(
        target.topic,
        replay,
        lambda: _size_of(cluster, target.topic),
        lambda size: producing(cluster, _producer(cluster, size)),
    )


def _allowed(runtime: Runtime) -> Sequence[Network | str]:
    return runtime.file.replay.allow_hosts


def _secrets(runtime: Runtime, target: HttpTarget) -> dict[str, str]:
    """By source. Never those of the sources themselves: the target could then sign what we would believe."""
    found = runtime.file.replay.secrets.get(target.authority, {})
    if target.resign and not found:
        raise InvalidSelection(
            "to sign again, put the secrets that the target verifies with into redrive.toml:"
            f' [replay.secrets."{target.authority}"], SOURCE = "SECRET"'
        )
    return {source: secret.get_secret_value() for source, secret in found.items()} if target.resign else {}


async def _size_of(cluster: Cluster, topic: str) -> Size:
    """Its partitions, and the largest batch that it takes. Looks before it asks: asking for a topic can make one."""
    async with Topics(cluster) as topics:
        (state,) = await topics.states({topic: {"max.message.bytes": str(MAX_RECORD_BYTES)}})
    if not state.exists:
        raise InvalidSelection(
            f"there is no topic {topic}; make it: kafka-topics.sh --bootstrap-server {cluster.servers} --create"
            f" --topic {topic} --partitions 12 --config max.message.bytes={MAX_RECORD_BYTES}"
        )
    return Size(state.partitions, int(state.faults.get("max.message.bytes", MAX_RECORD_BYTES)))


def _producer(cluster: Cluster, size: Size) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **cluster.client_options(),
        client_id="redrive-replay",
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        max_batch_size=min(MAX_BATCH_BYTES, size.max_bytes),
    )
