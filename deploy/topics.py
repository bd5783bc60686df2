"""Topics: create those that are missing, and compare those that are there with what the log needs."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from deploy.alter_configs import IncrementalAlterConfigs
from deploy.kafka import require_kafka
from replay.answering import while_answering
from replay.log.broker import Broker
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable, Unavailable
from schemas.masking import reason_of
from schemas.settings import Source
from schemas.topics import (
    CONTROL,
    LOG_CONFIG,
    OPERATOR,
    QUARANTINE,
    SIDE_CONFIG,
    TIMESTAMP_LIMITS,
    UNPACKED,
    WIDENED,
    WINDOW,
)

KNOWN_SECONDS: Final = 30.0
ASK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: `faults` maps a setting to what it is, where that is not what the log needs."""

    name: str
    exists: bool
    partitions: int
    replication: int
    min_insync_replicas: int
    faults: dict[str, str]

    @property
    def widening(self) -> dict[str, str]:
        """The faults that can be repaired without a loss, and the settings that repair them."""
        settings = {**UNPACKED, **WIDENED.get(self.name, {})}
        return {setting: value for setting, value in settings.items() if setting in self.faults}


def wanted(sources: Iterable[Source]) -> dict[str, dict[str, str]]:
    """Topic -> its configuration."""
    return {**{source.topic: LOG_CONFIG for source in sources}, **SIDE_CONFIG}


def partitions_of(topic: str, default: int) -> int:
    """Operators' topics are small, and control and the quarantine are read whole."""
    return 1 if topic in (CONTROL, OPERATOR, QUARANTINE, WINDOW) else default


class Topics:
    """The admin client's part that redrive needs. Use as an async context manager; raises `Unavailable`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._broker = Broker(cluster)
        self._client: AIOKafkaAdminClient = AIOKafkaAdminClient(**cluster.client_options())

    async def __aenter__(self) -> "Topics":
        # The client asks a broker that hangs for most of a minute, and hides why.
        await require_kafka(self._cluster)
        try:
            async with self._answering():
                await self._client.start()
        except Unavailable:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            async with while_answering(self._broker):
                yield
        except KafkaError as error:
            raise LogUnavailable(f"Kafka does not answer at {self._cluster.servers}: {reason_of(error)}") from error

    async def names(self) -> set[str]:
        async with self._answering():
            return set(await self._client.list_topics())

    async def create(self, topics: dict[str, dict[str, str]], partitions: int, replication: int) -> list[str]:
        """Create what is missing; returns the new names."""
        existing = await self.names()
        missing = {name: config for name, config in topics.items() if name not in existing}
        new = [
            NewTopic(name, partitions_of(name, partitions), replication, topic_configs={**config, **TIMESTAMP_LIMITS})
            for name, config in missing.items()
        ]
        async with self._answering():
            response = await self._client.create_topics(new)
        for name, code, *rest in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise Unavailable(f"Kafka did not create {name}: {rest[0] if rest else error.__name__}")
        await self._until_known(set(missing))
        return list(missing)

    async def _until_known(self, created: set[str]) -> None:
        """The controller has them when it answers; the broker that is asked next hears of it a moment later."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + KNOWN_SECONDS
        while unknown := created - await self.names():
            if clock() > deadline:
                named = ", ".join(sorted(unknown))
                raise Unavailable(f"Kafka created {named}, and its brokers do not know it yet; try again")
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def widen(self, changes: dict[str, dict[str, str]]) -> None:
        """Set these settings of topics, and leave all others as they are."""
        async with self._answering():
            # The client's own way to alter a topic takes back every setting that it is not told.
            response = await self._client._send_request(IncrementalAlterConfigs(changes))
        for code, message, _kind, name in response.responses:
            if code:
                raise Unavailable(f"Kafka did not change {name}: {message or for_code(code).__name__}")
        clock = asyncio.get_running_loop().time
        deadline = clock() + KNOWN_SECONDS
        while not await self._tells(changes):
            if clock() > deadline:
                raise Unavailable(
                    f"Kafka took the settings of {', '.join(changes)} and does not tell of them; ask again"
                )
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _tells(self, changes: dict[str, dict[str, str]]) -> bool:
        """A broker hears a little later of what the controller took."""
        async with self._answering():
            actual = await self._configs(list(changes))
        return all(settings.items() <= actual[name].items() for name, settings in changes.items())

    async def states(self, topics: dict[str, dict[str, str]]) -> list[TopicState]:
        """Every wanted topic as it is."""
        existing = await self.names()
        names = [name for name in topics if name in existing]
        async with self._answering():
            described = {item["topic"]: item for item in await self._client.describe_topics(names)} if names else {}
            configs = await self._configs(names)
        states = []
        for name, needed in topics.items():
            if name not in described:
                states.append(TopicState(name, False, 0, 0, 0, {}))
                continue
            partitions = described[name]["partitions"]
            actual = configs[name]
            faults = {
                setting: actual.get(setting, "") for setting, value in needed.items() if actual.get(setting) != value
            }
            # Larger records than ours harm nobody.
            if int(actual.get("max.message.bytes", "0")) >= int(needed["max.message.bytes"]):
                faults.pop("max.message.bytes", None)
            replication = min((len(part["replicas"]) for part in partitions), default=0)
            minimum = int(actual.get("min.insync.replicas", "1"))
            states.append(TopicState(name, True, len(partitions), replication, minimum, faults))
        return states

    async def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str]] = {}
        for response in await self._client.describe_configs(resources):
            for _code, _message, _kind, name, entries in response.resources:
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found
