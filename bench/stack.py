"""A Kafka and a Postgres of the run's own, in a temporary folder, and fresh topics and databases in them."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.embedded.embedded_kafka import EmbeddedKafka
from deploy.embedded.embedded_postgres import EmbeddedPostgres
from deploy.migrate import migrate
from deploy.topics import Topics
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.topics import DEFAULT_PARTITIONS, LOG_CONFIG, SIDE_CONFIG, topic_of

SOURCE: Final = "stripe"
TOPIC: Final = topic_of(SOURCE)
TEMPLATE: Final = "bench_template"
TOPIC_SECONDS: Final = 30.0


def say(message: str) -> None:
    """Progress, where it doesn't mix with results."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


class Stack:
    """Use as an async context manager, under the standard event loop."""

    def __init__(self) -> None:
        self._exits = AsyncExitStack()
        self.folder = Path()
        self.servers = ""
        self._postgres: EmbeddedPostgres | None = None

    async def __aenter__(self) -> "Stack":
        async with AsyncExitStack() as exits:
            folder = exits.enter_context(
                tempfile.TemporaryDirectory(prefix="redrive-bench-", ignore_cleanup_errors=True)
            )
            self.folder = Path(folder)
            say(f"starting Kafka and Postgres in {folder}")
            kafka = EmbeddedKafka(self.folder / "kafka", self.folder / "logs" / "kafka.log", say)
            exits.push_async_callback(kafka.stop)
            await kafka.start()
            self.servers = kafka.bootstrap_servers
            self._postgres = EmbeddedPostgres(self.folder / "postgres", self.folder / "logs" / "postgres.log", say)
            exits.push_async_callback(self._postgres.stop)
            await self._postgres.start()
            await self._create_template()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def url(self, database: str) -> str:
        if self._postgres is None:
            raise RuntimeError("enter the stack before asking for a database")
        return self._postgres.url(database)

    async def _create_template(self) -> None:
        await self._administer(f"CREATE DATABASE {TEMPLATE}")
        connection = await asyncpg.connect(self.url(TEMPLATE))
        try:
            await migrate(connection, self.url(TEMPLATE))
        finally:
            await connection.close()

    async def _administer(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def postgres_version(self) -> str:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close()

    async def fresh_database(self, name: str) -> str:
        """A migrated, empty database; returns its URL. The checkpoint keeps an earlier run's writes out of its time."""
        drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
        await self._administer(drop, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}", "CHECKPOINT")
        return self.url(name)

    async def checkpoint(self) -> None:
        await self._administer("CHECKPOINT")

    async def drop_database(self, name: str) -> None:
        await self._administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def fresh_topic(self, name: str = TOPIC, partitions: int = DEFAULT_PARTITIONS) -> None:
        """A topic as sources have it, empty, beside those that every service expects."""
        await self.drop_topic(name)
        async with Topics(Cluster(self.servers)) as topics:
            await topics.create({name: LOG_CONFIG, **SIDE_CONFIG}, partitions, 1)

    async def drop_topic(self, name: str = TOPIC) -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await client.start()
        try:
            deadline = time.monotonic() + TOPIC_SECONDS
            while name in await client.list_topics():
                if time.monotonic() > deadline:
                    raise Unavailable(f"Kafka did not delete {name}")
                await client.delete_topics([name])
                # Deletion is asynchronous: the name is free when it is no longer listed.
                await asyncio.sleep(0.2)
        finally:
            await client.close()

    async def log_end(self, name: str = TOPIC) -> int:
        """Records ever appended to a topic, as it is now."""
        async with self.watching(name) as end:
            return await end()

    @asynccontextmanager
    async def watching(self, name: str = TOPIC) -> AsyncIterator[Callable[[], Awaitable[int]]]:
        """What to ask for the topic's end, again and again."""
        consumer = AIOKafkaConsumer(name, bootstrap_servers=self.servers)
        await consumer.start()
        try:
            partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()]

            async def end() -> int:
                return sum((await consumer.end_offsets(partitions)).values())

            yield end
        finally:
            await consumer.stop()
