"""Topics as an operator of Kafka changes them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from deploy.topics import Topics
from schemas.cluster import Cluster
from schemas.topics import LOG_CONFIG
from tests.support.records import PARTITIONS
from tests.support.waiting import until


@asynccontextmanager
async def admin(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def delete(servers: str, names: Sequence[str]) -> None:
    """Until the broker no longer tells of them."""
    async with admin(servers) as client:

        async def are_gone() -> bool:
            left = {*names} & {*await client.list_topics()}
            if left:
                await client.delete_topics(sorted(left))
            return not left

        await until(are_gone, "the topics are gone")


async def create(servers: str, name: str, partitions: int = PARTITIONS) -> None:
    async with Topics(Cluster(servers)) as topics:
        await topics.create({name: LOG_CONFIG}, partitions, replication=1)

        async def is_told() -> bool:
            return name in await topics.names()

        await until(is_told, "the broker tells of the topic")


async def make_anew(servers: str, name: str, partitions: int = PARTITIONS) -> None:
    """Delete a topic and create it: another log of the same name."""
    await delete(servers, [name])
    await create(servers, name, partitions)


async def add_partitions(servers: str, name: str, count: int) -> None:
    """So that there are `count`."""
    async with admin(servers) as client:
        await client.create_partitions({name: NewPartitions(count)})


async def delete_records(servers: str, name: str, partition: int, before: int) -> None:
    """As retention does it."""
    async with admin(servers) as client:
        await client.delete_records({TopicPartition(name, partition): RecordsToDelete(before_offset=before)})
