"""Appending for operators' commands: the same records as the ingress makes, by a producer of their own."""

from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import BrokerResponseError, KafkaError, RecordTooLargeError, UnknownError

from ingest.log.producer import producer_factory, stop_producer
from replay.answering import while_answering
from replay.log.broker import Broker
from replay.log.reader import LogReader
from replay.operations.corrections import Desk
from replay.ports import Append
from schemas.cluster import Cluster
from schemas.corrections import Correction
from schemas.envelope import Identity, Location, VerifiedDelivery, record_headers
from schemas.errors import AppendInDoubt, LogUnavailable
from schemas.masking import reason_of
from schemas.settings import Source
from schemas.topics import OPERATOR


@asynccontextmanager
async def producing(cluster: Cluster, producer: AIOKafkaProducer) -> AsyncIterator[AIOKafkaProducer]:
    """Started, and stopped whatever comes. Raises `LogUnavailable`."""
    try:
        async with while_answering(Broker(cluster)):
            await producer.start()
        yield producer
    except KafkaError as error:
        raise LogUnavailable(f"Kafka does not answer at {cluster.servers}: {reason_of(error)}") from error
    finally:
        await stop_producer(producer)


@asynccontextmanager
async def until_confirmed(cluster: Cluster) -> AsyncIterator[list[Awaitable[Any]]]:
    """For the block that sends, and adds what it hands to the producer to the yielded list.

    Raises `LogUnavailable` if nothing was handed over, or if the broker refused, so that nothing is on the log; and
    `AppendInDoubt` if the broker did not answer: a request that it has in hand may reach the log later.
    """
    sent: list[Awaitable[Any]] = []
    try:
        async with while_answering(Broker(cluster)):
            yield sent
    except LogUnavailable as error:
        if not sent:
            raise
        raise AppendInDoubt(f"{error}; it did not confirm the record, which may be on the log") from error
    except KafkaError as error:
        has_answered = isinstance(error, BrokerResponseError | RecordTooLargeError) and not isinstance(
            error, UnknownError
        )
        if not sent or (has_answered and not error.retriable):
            raise LogUnavailable(f"Kafka refused the record: {reason_of(error)}") from error
        reason = f"Kafka did not confirm the record, which may be on the log: {reason_of(error)}"
        raise AppendInDoubt(reason) from error


async def append_correction(cluster: Cluster, correction: Correction) -> Location:
    """Returns once it is durable. Raises `LogUnavailable`, or `AppendInDoubt`."""
    async with producing(cluster, producer_factory(cluster)()) as producer, until_confirmed(cluster) as sent:
        sent.append(
            await producer.send(
                OPERATOR,
                correction.body(),
                key=correction.event_id.encode(),
                timestamp_ms=correction.timestamp_ms,
                headers=correction.headers(),
            )
        )
        done = await sent[0]
    return Location(done.topic, done.partition, done.offset)


def correction_desk(cluster: Cluster, sources: Collection[str]) -> Desk:
    """`sources` are the names of those that are configured now."""
    return Desk(tuple(sources), lambda: LogReader(cluster), partial(append_correction, cluster))


@asynccontextmanager
async def appending(cluster: Cluster) -> AsyncIterator[Append]:
    """Raises `LogUnavailable` when Kafka does not take a record, and `AppendInDoubt` when it does not confirm one."""

    async def append(records: Sequence[tuple[Source, VerifiedDelivery, Identity]]) -> Sequence[Location]:
        async with until_confirmed(cluster) as sent:
            for source, verified, identity in records:
                sent.append(
                    await producer.send(
                        source.topic,
                        verified.delivery.body,
                        key=identity.record_id.encode(),
                        timestamp_ms=verified.delivery.arrived_ms,
                        headers=record_headers(verified, identity, source.provider.kept_headers),
                    )
                )
            done = [await one for one in sent]
        return [Location(one.topic, one.partition, one.offset) for one in done]

    async with producing(cluster, producer_factory(cluster)()) as producer:
        yield append
