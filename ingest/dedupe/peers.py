"""The appended contents that the hosts of one log share, so that a host knows a copy which reaches it a second after
another host appended the first. Only a hint: a lost message costs one more record. Must not be read as the truth.

Each message also carries the difference between this host's clock and Kafka's.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ingest import metrics
from ingest.dedupe.store import Chunk
from ingest.dedupe.table_lock import WindowHeld
from schemas.clocks import WARN_SECONDS, ahead_seconds
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.masking import describe
from schemas.outage import Outage
from schemas.topics import MAX_RECORD_BYTES, WINDOW

log: Final = logging.getLogger("redrive.ingest")
_PARTITION: Final = TopicPartition(WINDOW, 0)
_POLL_MS: Final = 1000
RETRY_SECONDS: Final = 5.0
BEAT_SECONDS: Final = 10.0
_BROKERS_CLOCK: Final = 1
"""Type of a timestamp that the broker gave. A topic of an older version keeps ours, which says nothing."""

MAX_WAITING: Final = 60
"""Seconds of news that are kept while nobody takes them; what is older is left unsaid."""


class Gossip:
    """One per host. Hosts are told apart by a number that each draws for itself."""

    def __init__(self, cluster: Cluster, heard: Callable[[Chunk], None]) -> None:
        self._cluster = cluster
        self._heard = heard
        self._host = os.urandom(8)
        self._is_off = False
        self._outage = Outage()
        self._news: asyncio.Queue[Chunk] = asyncio.Queue(MAX_WAITING)

    def tell(self, chunk: Chunk) -> None:
        """Entries, as `window_keeper` packs them."""
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait(chunk)

    async def run(self) -> None:
        """For ever; a broker that is away is asked again."""
        while True:
            try:
                await self._exchange()
            except Exception as error:  # noqa: BLE001 - a hint at most; it must not end for good
                metrics.WINDOW_SHARE_FAILURES.inc()
                if self._outage.begins(time.monotonic()):
                    line = {"action": "share_window", "outcome": "lost", "code": "window_not_shared"}
                    log.warning("hosts can't share their windows: %s", describe(error), extra=line)
                await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._cluster.client_options(), client_id="redrive-ingest-gossip", enable_auto_commit=False
        )
        producer = AIOKafkaProducer(
            **self._cluster.client_options(), client_id="redrive-ingest-gossip", max_request_size=MAX_RECORD_BYTES
        )
        try:
            await consumer.start()
            await producer.start()
            if WINDOW not in await consumer.topics():
                raise Unavailable(f"the topic {WINDOW} is missing: `redrive topics --apply` creates it")
            consumer.assign([_PARTITION])
            await consumer.seek_to_end(_PARTITION)
            if self._outage.ends(time.monotonic()) is not None:
                log.info("hosts share their windows again", extra={"action": "share_window", "outcome": "back"})
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(consumer))
                group.create_task(self._speak(producer))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        finally:
            await consumer.stop()
            await producer.stop()

    async def _listen(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for records in (await consumer.getmany(_PARTITION, timeout_ms=_POLL_MS)).values():
                for record in records:
                    if record.key != self._host and record.value is not None:
                        chunk = Chunk.decode(record.value)
                        if chunk is not None:
                            # While the window is held, it is a gap, and read from the log later.
                            with suppress(WindowHeld):
                                self._heard(chunk)
                        else:
                            metrics.WINDOW_SHARE_FAILURES.inc()

    async def _speak(self, producer: AIOKafkaProducer) -> None:
        """News, and where there are none an empty word now and then: the broker says when it took it."""
        while True:
            chunk = Chunk({}, {}, 0)
            # Not `wait_for`, which takes a cancellation for nothing where news come in the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    chunk = await self._news.get()
            asked = time.time()
            said = await producer.send_and_wait(WINDOW, chunk.encode(), key=self._host, partition=0)
            if said.timestamp_type == _BROKERS_CLOCK:
                self._compare(ahead_seconds(asked, said.timestamp / 1000, time.time()))

    def _compare(self, ahead: float) -> None:
        metrics.CLOCK_AHEAD.labels("kafka").set(ahead)
        was_off, self._is_off = self._is_off, abs(ahead) > WARN_SECONDS
        if self._is_off and not was_off:
            metrics.clock_went_wrong(ahead)
        elif was_off and not self._is_off:
            metrics.clock_is_right_again()
