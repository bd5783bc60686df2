"""Kafka brokers of a test's own: several of one cluster, or one that tells its clients an address that is not its own."""

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded.embedded_postgres import EmbeddedPostgres
from deploy.embedded.kafka_jars import kafka_class_path
from deploy.embedded.ports import free_ports
from deploy.supervisor import Child, Command
from schemas.topics import MAX_RECORD_BYTES
from tests.support.waiting import limit

START_SECONDS = 90.0


class Brokers:
    """`count` brokers that are their own controllers. `advertised` are the ports that clients are told of."""

    def __init__(self, folder: Path, count: int, advertised: list[int] | None = None) -> None:
        self._folder = folder
        self._count = count
        ports = free_ports(2 * count)
        self.ports, self._controllers = ports[:count], ports[count:]
        self._advertised = advertised or self.ports
        self.children: list[Child] = []

    @property
    def servers(self) -> str:
        """As clients are told."""
        return ",".join(f"127.0.0.1:{port}" for port in self._advertised)

    async def start(self) -> None:
        java, class_path = await asyncio.to_thread(kafka_class_path)
        cluster = uuid.uuid4().hex[:22]
        commands = []
        for number in range(self._count):
            home = self._folder / f"broker-{number + 1}"
            home.mkdir(parents=True)
            properties = home / "server.properties"
            properties.write_text(self._properties(number, home / "log"))
            tool = [str(java), "-cp", class_path, "kafka.tools.StorageTool", "format", "-t", cluster]
            await asyncio.to_thread(
                subprocess.run, [*tool, "-c", str(properties)], check=True, capture_output=True, text=True
            )
            argv = [str(java), "-Xms128m", "-Xmx384m", "-cp", class_path, "kafka.Kafka", str(properties)]
            commands.append(Command(f"broker-{number + 1}", argv, log=home / "broker.log", stop_seconds=30, home=home))
        self.children = [Child(command, print) for command in commands]
        await asyncio.gather(*(child.start() for child in self.children))
        await self._until_up()

    def _properties(self, number: int, log: Path) -> str:
        copies = min(self._count, 3)
        voters = ",".join(f"{n + 1}@127.0.0.1:{port}" for n, port in enumerate(self._controllers))
        settings = {
            "process.roles": "broker,controller",
            "node.id": number + 1,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.ports[number]},CONTROLLER://127.0.0.1:{self._controllers[number]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._advertised[number]}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": log,
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "min.insync.replicas": max(copies - 1, 1),
            "group.initial.rebalance.delay.ms": 0,
            "message.max.bytes": MAX_RECORD_BYTES,
            "replica.fetch.max.bytes": MAX_RECORD_BYTES,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    async def _until_up(self) -> None:
        async with limit("the brokers of the cluster"):
            while True:
                client = AIOKafkaAdminClient(bootstrap_servers=self.servers)
                try:
                    await client.start()
                    if len((await client.describe_cluster())["brokers"]) == self._count:
                        return
                except KafkaError:
                    pass
                finally:
                    await client.close()
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        await asyncio.gather(*(child.stop() for child in self.children))


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[dict[str, str], Brokers]]:
    """Three brokers, every record on three of them, two needed; a Postgres beside them; the services' environment."""
    brokers = Brokers(folder / "brokers", 3)
    postgres = EmbeddedPostgres(folder / "postgres", folder / "postgres.log", print)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(brokers.stop)
        await brokers.start()
        stack.push_async_callback(postgres.stop)
        await postgres.start()
        addresses = {"KAFKA_BOOTSTRAP_SERVERS": brokers.servers, "DATABASE_URL": postgres.url()}
        yield {**addresses, "TOPIC_REPLICATION_FACTOR": "3"}, brokers
