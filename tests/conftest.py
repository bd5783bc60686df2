"""The rig: one real Kafka and one real Postgres for the whole run, a database of its own for every test that asks.

Nothing here is a mock. A service that can't start is a failure, never a skip.
"""

import itertools
import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from hypothesis import HealthCheck, settings

from deploy import migrate
from deploy.embedded.embedded_kafka import EmbeddedKafka
from deploy.embedded.embedded_postgres import EmbeddedPostgres
from deploy.topics import Topics
from schemas.cluster import Cluster
from schemas.topics import LOG_CONFIG, SIDE_CONFIG, source_of
from tests.support.amounts import IS_THOROUGH, amount
from tests.support.forks import die_with
from tests.support.processes import last_lines
from tests.support.waiting import WAIT_SECONDS, until

settings.register_profile(
    "redrive",
    max_examples=amount(15, 100),
    derandomize=not IS_THOROUGH,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("redrive")

# A test that hangs in spite of its own limits ends with a traceback, and the run goes on.
os.environ.setdefault("PYTEST_TIMEOUT", f"{4 * WAIT_SECONDS:g}")
# Most of what a broker of a test would compile well it runs once; and what it measures of itself nobody reads.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData")

# Tests stop brokers on purpose; the client's reports of it would bury what matters.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

FIXTURES = Path(__file__).parent / "fixtures"
TEMPLATE = "redrive_template"
RUN_FOLDER = pytest.StashKey[Path]()
SERVER_LOGS = pytest.StashKey[Sequence[Path]]()
ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A run has a folder of its own, and leaves no process: workers die with it, and what they started dies with them.

    pytest's own folder is one for all runs of a user, and each run closes it to the user that Postgres runs as.
    """
    # A run in the background of a shell ignores Ctrl-C, and so would every command that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        die_with(os.getppid())
    elif config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="redrive-tests-")
        config.stash[RUN_FOLDER] = Path(config.option.basetemp)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What a run wrote is only of use where something failed."""
    folder = session.config.stash.get(RUN_FOLDER, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure that pytest can't show is one failure, and not the end of the run. Each shows the last lines of logs."""
    try:
        report = yield
    except Exception as error:
        cause = call.excinfo.exconly() if call.excinfo else "no exception"
        text = f"{cause}\n(its traceback can't be shown: {error!r})"
        report = pytest.TestReport(
            item.nodeid,
            item.location,
            {item.name: 1},
            "failed",
            text,
            "call" if call.when == "collect" else call.when,
            (),
            call.duration,
            call.start,
            call.stop,
        )
    if report.failed:
        report.sections += last_lines(item.config.stash.get(SERVER_LOGS, ())).items()
    return report


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sockets too: whatever a killed run leaves is in its own temporary folder."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path_factory.getbasetemp())


@dataclass
class Stack:
    """Addresses of the session's Kafka and Postgres, and the servers themselves for tests that hurt them."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres

    @property
    def servers(self) -> str:
        return self.kafka.bootstrap_servers

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.servers)


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    logs = folder / "kafka.log", folder / "postgres.log"
    pytestconfig.stash[SERVER_LOGS] = logs
    kafka = EmbeddedKafka(folder / "kafka", logs[0], print)
    postgres = EmbeddedPostgres(folder / "postgres", logs[1], print)
    try:
        await postgres.start()
        await _spare_the_disk(postgres)
        await kafka.start()
        async with Topics(Cluster(kafka.bootstrap_servers)) as topics:
            await topics.create(SIDE_CONFIG, partitions=2, replication=1)
        yield Stack(kafka, postgres)
    finally:
        await kafka.stop()
        await postgres.stop()


async def fresh_topics(stack: Stack) -> None:
    """The broker as it was when the run began: the topics that are no source's, and no record."""
    client = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await client.start()
    try:

        async def are_gone() -> bool:
            ours = [name for name in await client.list_topics() if not name.startswith("__")]
            if ours:
                # Again where the broker was too busy for it, which only the answer's codes say.
                await client.delete_topics(ours)
            return not ours

        await until(are_gone, "the topics are gone")
    finally:
        await client.close()
    async with Topics(stack.cluster) as topics:
        await topics.create(SIDE_CONFIG, partitions=2, replication=1)


async def _spare_the_disk(postgres: EmbeddedPostgres) -> None:
    """Tests kill processes, never the machine: what was written to its page cache stays."""
    admin = await asyncpg.connect(postgres.url("postgres"))
    try:
        await admin.execute("ALTER SYSTEM SET fsync = off")
        await admin.execute("SELECT pg_reload_conf()")
    finally:
        await admin.close()


@pytest.fixture(scope="session")
async def template(stack: Stack) -> str:
    """A migrated database to copy."""
    admin = await asyncpg.connect(stack.postgres.url("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    finally:
        await admin.close()
    url = stack.postgres.url(TEMPLATE)
    connection = await asyncpg.connect(url)
    try:
        await migrate.migrate(connection, url)
    finally:
        await connection.close()
    return TEMPLATE


@asynccontextmanager
async def fresh_database(stack: Stack, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}_{secrets.token_hex(3)}"
    admin = await asyncpg.connect(stack.postgres.url("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield stack.postgres.url(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def database_url(stack: Stack, template: str) -> AsyncIterator[str]:
    """A database of the test's own, with the schema and nothing in it."""
    async with fresh_database(stack, template) as url:
        yield url


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    found = await asyncpg.connect(database_url)
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture(scope="module")
async def shared_connection(stack: Stack, template: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """To a database of the module's, for many small tests: each empties it first (`tests.support.tables.empty`)."""
    async with fresh_database(stack, template) as url:
        found = await asyncpg.connect(url)
        try:
            yield found
        finally:
            await found.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    found = await asyncpg.create_pool(database_url, min_size=0, max_size=4)
    try:
        yield found
    finally:
        found.terminate()


@pytest.fixture
async def topic(stack: Stack) -> str:
    """A log topic of the test's own, with three partitions; its source is its name without the prefix."""
    # Letters: digits in a row are masked like a phone number.
    name = f"webhooks.t{next(_numbers)}{''.join(secrets.choice(ascii_lowercase) for _ in range(6))}"
    async with Topics(stack.cluster) as topics:
        await topics.create({name: LOG_CONFIG}, partitions=3, replication=1)
    return name


@pytest.fixture
def source_name(topic: str) -> str:
    return source_of(topic)


@pytest.fixture
def read_topic(stack: Stack) -> ReadTopic:
    """Every record of a topic, as it is now."""

    async def read(topic: str) -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(bootstrap_servers=stack.servers, enable_auto_commit=False)
        await consumer.start()
        try:

            async def known() -> bool:
                # A broker that was frozen a moment ago may answer without the topic's leaders.
                await consumer._client.add_topic(topic)
                await consumer._client.force_metadata_update()
                return bool(consumer.partitions_for_topic(topic))

            await until(known, f"{topic} has partitions")
            partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[ConsumerRecord] = []
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
            return found
        finally:
            await consumer.stop()

    return read
