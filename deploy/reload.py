"""The control topic: what operators said of each source, followed by every service that acts on it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from deploy.operator_log import producing, until_confirmed
from ingest.log.passing_over import PassingOver
from ingest.log.producer import producer_factory
from replay.answering import while_answering
from replay.log.broker import Broker, stop_consumer
from replay.operations.sources import ControlTopic
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable
from schemas.masking import describe, reason_of
from schemas.outage import Outage
from schemas.source_state import SourceState, SourceStateName
from schemas.topics import CONTROL

log: Final = logging.getLogger("redrive.control")
_PARTITION: Final = TopicPartition(CONTROL, 0)
_POLL_MS: Final = 1000
RETRY_SECONDS: Final = 1.0


class Control:
    """The topic's one reader in a process. `states` is the last word on each source that has one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._consumer: AIOKafkaConsumer | None = None
        self.states: dict[str, SourceState] = {}
        self.is_missing = False
        """True if the topic was missing when it was to be read: the states of the sources are unknown."""

    async def start(self) -> None:
        """Can be tried again. Raises `LogUnavailable` while no broker answers."""
        await self.stop()
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client_options(),
            client_id="redrive-control",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await self._consumer.start()
            self._consumer.assign([_PARTITION])
            await self._consumer.seek_to_beginning(_PARTITION)
        except KafkaError as error:
            await self.stop()
            raise self._away(error) from error

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    def _away(self, error: KafkaError) -> LogUnavailable:
        return LogUnavailable(f"Kafka does not answer at {self._cluster.servers}: {reason_of(error)}")

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("start before reading")
        return self._consumer

    async def catch_up(self) -> Mapping[str, SourceState]:
        """Everything said until now; nothing where the topic is missing. Raises `LogUnavailable`."""
        try:
            self.is_missing = CONTROL not in await self._started.topics()
            if self.is_missing:
                log.error(
                    "the topic %s is missing, and with it what operators said of sources: `redrive topics --apply`",
                    CONTROL,
                    extra={"action": "follow_control", "outcome": "missing", "code": "topic_missing"},
                )
                return self.states
            end = (await self._started.end_offsets([_PARTITION]))[_PARTITION]
            while await self._started.position(_PARTITION) < end:
                await self._read()
        except KafkaError as error:
            raise self._away(error) from error
        return self.states

    async def follow(self, on_change: Callable[[Mapping[str, SourceState]], None]) -> None:
        """From here on, for ever: a broker that is away is asked again."""
        outage = Outage()
        while True:
            try:
                if await self._read():
                    if (seconds := outage.ends(time.monotonic())) is not None:
                        line = {"action": "follow_control", "outcome": "back", "seconds": round(seconds, 1)}
                        log.info("the control topic is read again", extra=line)
                    on_change(self.states)
            except KafkaError as error:
                if outage.begins(time.monotonic()):
                    log.warning(
                        "the control topic can't be read: %s",
                        describe(error),
                        extra={"action": "follow_control", "outcome": "lost", "code": "log_unavailable"},
                    )
                await asyncio.sleep(RETRY_SECONDS)

    async def _read(self) -> bool:
        has_changed = False
        reader = PassingOver(self._started, "follow_control", largest_step=1)
        for records in (await reader.getmany(_PARTITION, timeout_ms=_POLL_MS)).values():
            for record in records:
                if record.value is None:
                    # Compaction drops it with all earlier states: the source has none.
                    has_changed |= self.states.pop((record.key or b"").decode("utf-8", "replace"), None) is not None
                    continue
                state = SourceState.decode(record.key, record.value)
                if state is not None:
                    self.states[state.source] = state
                    has_changed = True
        return has_changed


def in_state(states: Mapping[str, SourceState], wanted: SourceStateName) -> frozenset[str]:
    """The sources that are in this state."""
    return frozenset(name for name, said in states.items() if said.state == wanted)


def control_topic(cluster: Cluster) -> ControlTopic:
    """For operators: the states until now, and appends of new ones."""
    broker = Broker(cluster)

    async def states() -> Mapping[str, SourceState]:
        control = Control(cluster)
        try:
            async with while_answering(broker):
                await control.start()
                return await control.catch_up()
        finally:
            await control.stop()

    async def say(state: SourceState) -> None:
        key, value = state.encode()
        async with producing(cluster, producer_factory(cluster)()) as producer, until_confirmed(cluster) as sent:
            sent.append(await producer.send(CONTROL, value, key=key, partition=0))
            await sent[0]

    return ControlTopic(states, say)
