"""Appending for operators' commands: the same records as the ingress makes, by a producer of their own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from ingest.producer import producer_factory
from replay.ports import Append
from schemas.cluster import Cluster
from schemas.envelope import Identity, Location, VerifiedDelivery, record_headers
from schemas.errors import Unavailable
from schemas.settings import Source


@asynccontextmanager
async def appending(cluster: Cluster) -> AsyncIterator[Append]:
    """Raises `Unavailable` when Kafka does not take a record."""
    producer = producer_factory(cluster)()

    async def append(records: Sequence[tuple[Source, VerifiedDelivery, Identity]]) -> Sequence[Location]:
        try:
            sent = [
                await producer.send(
                    source.topic,
                    verified.delivery.body,
                    key=identity.record_id.encode(),
                    timestamp_ms=verified.delivery.arrived_ms,
                    headers=record_headers(verified, identity, source.provider.kept_headers),
                )
                for source, verified, identity in records
            ]
            done = [await one for one in sent]
        except KafkaError as error:
            raise Unavailable(f"Kafka did not take the records: {error}") from error
        return [Location(one.topic, one.partition, one.offset) for one in done]

    try:
        await producer.start()
        yield append
    except KafkaError as error:
        raise Unavailable(f"Kafka does not answer at {cluster.servers}: {error}") from error
    finally:
        await producer.stop()
