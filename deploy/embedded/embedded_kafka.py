"""The real Apache Kafka as a child process, for development and for tests."""

import asyncio
import subprocess
import uuid
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded.kafka_jars import kafka_class_path
from deploy.embedded.ports import START_SECONDS, Announce, free_ports
from deploy.supervisor import Child, Command
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.topics import MAX_RECORD_BYTES

MARKER: Final = "kafka-port"


class EmbeddedKafka:
    """One broker that is its own controller, on loopback, with its log under `folder`."""

    def __init__(self, folder: Path, log: Path, announce: Announce) -> None:
        self._folder = folder.resolve()
        self._log = log
        self._announce = announce
        self._child: Child | None = None
        self.bootstrap_servers = ""

    async def start(self) -> None:
        java, class_path = await asyncio.to_thread(kafka_class_path)
        self._folder.mkdir(parents=True, exist_ok=True)
        marker = self._folder / MARKER
        port, controller_port = free_ports(2, int(marker.read_text()) if marker.exists() else None)
        marker.write_text(str(port))
        self.bootstrap_servers = f"127.0.0.1:{port}"
        properties = self._folder / "server.properties"
        settings = self._settings(port, controller_port)
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if not (self._folder / "log" / "meta.properties").exists():
            await asyncio.to_thread(self._format, java, class_path, properties)
        command = Command(
            "kafka",
            [
                str(java),
                "-Xms256m",
                "-Xmx512m",
                f"-Dlog4j2.configurationFile={Path(__file__).with_name('kafka-log.properties')}",
                "-cp",
                class_path,
                "kafka.Kafka",
                str(properties),
            ],
            log=self._log,
            stop_seconds=60,
            home=self._folder,
        )
        self._child = Child(command, self._announce)
        await self._child.start()
        await self._wait()

    def _settings(self, port: int, controller_port: int) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._folder / "log"),
            "num.partitions": "12",
            "auto.create.topics.enable": "false",
            # One that waits for nobody: by default it writes a record of its own twice a second.
            "metadata.max.idle.interval.ms": "0",
            "background.threads": "2",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": str(MAX_RECORD_BYTES),
            "replica.fetch.max.bytes": str(MAX_RECORD_BYTES),
            "socket.request.max.bytes": str(100 * 1024 * 1024),
        }

    def _first_users(self) -> list[str]:
        """Arguments of the format: nobody needs a login here."""
        return []

    def _format(self, java: Path, class_path: str, properties: Path) -> None:
        cluster = uuid.uuid4().hex[:22]
        argv = [str(java), "-cp", class_path, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        done = subprocess.run([*argv, *self._first_users()], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"Kafka's storage could not be formatted: {(done.stderr or done.stdout).strip()[:500]}")

    async def _wait(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            client = AIOKafkaAdminClient(**Cluster(self.bootstrap_servers).client_options())
            try:
                await client.start()
                return
            except KafkaError as error:
                gone = self._child is None or self._child.has_exited or self._child.restarts > 1
                if gone or asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"Kafka did not start; its log is {self._log}") from error
                await asyncio.sleep(0.2)
            finally:
                await client.close()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()
