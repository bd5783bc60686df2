"""A consumer's records without those that the Kafka client can't read. For readers that can do without a record.

Must not look into records.
"""

import logging
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.masking import describe
from schemas.unreadable import is_unreadable

log: Final = logging.getLogger("redrive.log")
_CAREFUL_RECORDS: Final = 500
"""Read one by one of a partition before all are fetched together again."""


class PassingOver:
    """Reads from partitions that are assigned and sought. `action`: of the lines in the log.

    `largest_step`: so many offsets are passed over at once where many in a row can't be read, and with them a readable
    record that is among them.
    """

    def __init__(self, consumer: AIOKafkaConsumer, action: str, largest_step: int) -> None:
        self._consumer = consumer
        self._action = action
        self._largest_step = largest_step

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        """As the consumer's. Raises `KafkaError`."""
        consumer = self._consumer
        starts = {tp: await consumer.position(tp) for tp in partitions}
        try:
            found: dict[TopicPartition, list[Any]] = await consumer.getmany(*partitions, timeout_ms=timeout_ms)
            return found
        except Exception as error:
            if not is_unreadable(error):
                raise
        # The client drops what it had taken of the others, and would pass over what it had read of this one.
        for tp, at in starts.items():
            consumer.seek(tp, at)
        return {tp: await self._read(tp, timeout_ms) for tp in partitions}

    async def _read(self, tp: TopicPartition, timeout_ms: int) -> list[Any]:
        """One by one, and past the first that can't be read."""
        consumer, step = self._consumer, 0
        found: list[Any] = []
        while len(found) < _CAREFUL_RECORDS:
            try:
                records = (await consumer.getmany(tp, timeout_ms=timeout_ms, max_records=1)).get(tp, [])
            except Exception as error:
                if not is_unreadable(error):
                    raise
                # A batch may hold thousands, and each fails with all of it: so the steps grow while nothing is read.
                step = min(step * 2 or 1, self._largest_step)
                await self._pass(tp, step, error)
                continue
            found += records
            if step or not records:
                break
        return found

    async def _pass(self, tp: TopicPartition, step: int, error: Exception) -> None:
        at = await self._consumer.position(tp)
        # Past the end the client would begin elsewhere.
        end = min(at + step, (await self._consumer.end_offsets([tp]))[tp])
        self._consumer.seek(tp, end)
        log.error(
            "a record can't be read, and is passed over: %s",
            describe(error),
            extra={
                "action": self._action,
                "outcome": "passed_over",
                "code": "record_unreadable",
                "location": f"{tp.topic}/{tp.partition}/{at}",
                "end": end,
            },
        )
