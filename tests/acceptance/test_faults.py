"""Invariants 1, 7 and 9 under faults, on the real processes: whatever was answered 2xx is in the tables, once.

After each fault the whole story so far is compared. What is random prints its seed; `make soak` does more of it.
"""

import asyncio
import contextlib
import random
import signal
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest

from deploy.embedded.local import EmbeddedPostgres, free_ports
from tests.soak.census import by_role
from tests.support import forks
from tests.support.brokers import Brokers, cluster
from tests.support.disks import small_disk
from tests.support.network import Proxy, proxy
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, Webhook, write
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import limit, within

pytestmark = pytest.mark.thorough


KILLS = 4


class Told:
    """A story told in parts."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self.installation = installation
        self.author = Author(seed, start=int(time.time()) - 200_000)
        self.provider = Provider(installation.ingest_url)

    def more(self, stories: int) -> list[Webhook]:
        """New webhooks, out of order."""
        known = len(self.author.world.webhooks)
        write(self.author, stories)
        new = self.author.world.webhooks[known:]
        self.author.random.shuffle(new)
        return new

    async def deliver(self, stories: int) -> None:
        await self.provider.deliver_all(self.more(stories))

    async def is_in_the_tables(self) -> None:
        """All of it, once, and nothing dead."""
        connection = await connected(self.installation)
        try:
            await until_folded(connection, self.author.world.events)
            await assert_tables_are_the_story(connection, self.author.world)
            assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE status = 'dead'") == 0
            assert await connection.fetchval("SELECT count(*) FROM webhook_events") == len(self.author.world.events)
        finally:
            await connection.close()
        assert self.provider.done.accepted == len(self.author.world.webhooks)


async def connected(installation: Installation) -> "asyncpg.Connection[asyncpg.Record]":
    """While a server comes back, it takes a moment."""
    async with limit("Postgres lets us in"):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                return await asyncpg.connect(installation.address("DATABASE_URL"), timeout=5)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def installed(folder: Path, **environment: str) -> AsyncIterator[Installation]:
    found = Installation(folder, **SECRETS, **environment)
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


@dataclass
class Network:
    """The story, and what lies between the services and each of their servers."""

    told: Told
    to_kafka: Proxy
    to_postgres: Proxy


@pytest.fixture(scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    """One for the module: every fault leaves it as it found it, and the story goes on."""
    folder = tmp_path_factory.mktemp("network")
    (port,) = free_ports(1)
    brokers = Brokers(folder / "kafka", 1, advertised=[port])
    postgres = EmbeddedPostgres(folder / "postgres", folder / "postgres.log", print)
    async with AsyncExitStack() as stack:
        to_kafka, _ = await stack.enter_async_context(
            proxy(lambda: asyncio.open_connection("127.0.0.1", brokers.ports[0]), port)
        )
        stack.push_async_callback(brokers.stop)
        await brokers.start()
        stack.push_async_callback(postgres.stop)
        await postgres.start()
        socket = f"{postgres.sockets}/.s.PGSQL.5432"
        to_postgres, database = await stack.enter_async_context(proxy(lambda: asyncio.open_unix_connection(socket)))
        installation = await stack.enter_async_context(
            installed(
                folder,
                INGEST_WORKERS="2",
                KAFKA_BOOTSTRAP_SERVERS=brokers.servers,
                DATABASE_URL=f"postgresql://postgres@127.0.0.1:{database}/redrive",
            )
        )
        yield Network(Told(installation, 11), to_kafka, to_postgres)


async def test_a_slow_network_delays_and_loses_nothing(network: Network) -> None:
    network.to_kafka.delay_seconds = network.to_postgres.delay_seconds = 0.05
    carried = network.to_kafka.carried, network.to_postgres.carried
    await network.told.deliver(2)
    await network.told.is_in_the_tables()
    assert network.to_kafka.carried > carried[0]
    assert network.to_postgres.carried > carried[1]
    for between in (network.to_kafka, network.to_postgres):
        between.heal()


async def test_a_partition_from_the_log_is_bridged_by_the_spool(network: Network) -> None:
    told = network.told
    network.to_kafka.split()
    spooled, retries = told.provider.done.statuses["spooled"], told.provider.done.retries
    await told.deliver(6)
    assert told.provider.done.statuses["spooled"] > spooled
    assert told.provider.done.retries == retries, "nobody had to send again"
    network.to_kafka.heal()
    await told.is_in_the_tables()


async def test_connections_that_break_again_and_again_lose_nothing(network: Network) -> None:
    told = network.told
    sending = asyncio.create_task(told.deliver(8))
    while not sending.done():
        for between in (network.to_kafka, network.to_postgres):
            seen = between.carried
            between.cut()
            between.heal()
            async with limit("traffic after the cut"):
                while between.carried < seen + 5 and not sending.done():
                    await asyncio.sleep(0.02)
    await sending
    await told.is_in_the_tables()


async def test_a_partition_from_the_database_holds_up_the_fold_and_nothing_else(network: Network) -> None:
    told = network.told
    network.to_postgres.split()
    retries = told.provider.done.retries
    await told.deliver(4)
    assert told.provider.done.retries == retries
    found = await told.installation.until_ready("processors", expect=False)
    assert found["checks"]["database"] is False
    network.to_postgres.heal()
    await told.installation.until_ready("processors")
    await told.is_in_the_tables()


async def test_a_storm_of_rebalances_folds_everything_once(network: Network) -> None:
    """Processors come, and leave by the door or by kill -9, while others fold."""
    told = network.told
    sending = asyncio.create_task(told.deliver(6))
    for number in range(3):
        async with another_processor(told.installation) as other:
            await told.installation.until_ready("another")
            assert other.returncode is None
            if number % 2:
                other.kill()
    await sending
    await told.is_in_the_tables()


@asynccontextmanager
async def another_processor(installation: Installation) -> AsyncIterator[forks.Process]:
    (port,) = free_ports(1)
    installation.ports["another"] = port
    process = await forks.redrive(
        "processors",
        cwd=installation.folder,
        env={**installation.environment, "PROCESSORS_PORT": str(port)},
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await within(process.wait(), "the other processors stop")


@pytest.fixture(scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """With servers that `redrive up` starts, and starts again."""
    async with installed(tmp_path_factory.mktemp("told"), INGEST_WORKERS="2") as installation:
        yield Told(installation, 12)


async def test_a_database_that_takes_no_writes_is_waited_for(told: Told) -> None:
    """Read-only for a while, then a failover: it comes back in recovery, and is promoted."""
    installation = told.installation
    connection = await connected(installation)
    await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await connection.execute("SELECT pg_reload_conf()")
    await told.deliver(3)
    await installation.until_ready("processors", expect=False)
    key = {"X-Admin-API-Key": installation.address("ADMIN_API_KEY")}
    console = aiohttp.ClientSession(installation.url("console"), headers=key)
    async with console as session, session.post("/api/proofs") as response:
        problem = await response.json()
    assert (problem["status"], problem["code"]) == (503, "database_unavailable")
    assert "read-only" in problem["detail"]
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    await told.is_in_the_tables()

    (installation.folder / ".redrive" / "postgres" / "standby.signal").touch(mode=0o644)
    await installation.kill("postgres")
    connection = await connected(installation)
    assert await connection.fetchval("SELECT pg_is_in_recovery()")
    await told.deliver(3)
    await installation.until_ready("processors", expect=False)
    assert await connection.fetchval("SELECT pg_promote()")
    await connection.close()
    await told.is_in_the_tables()


async def test_kills_at_random_moments_lose_nothing_and_double_nothing(told: Told) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    order = random.Random(seed)
    webhooks, known = told.more(12), told.provider.done.accepted
    moments = sorted(order.randrange(len(webhooks)) for _ in range(KILLS))
    sending = asyncio.create_task(told.provider.deliver_all(webhooks))
    for moment in moments:
        least = known + moment
        await told.installation.until(lambda: told.provider.done.accepted >= least, "deliveries")  # noqa: B023
        victims = by_role(told.installation)
        role = order.choice([role for role in sorted(victims) if role != "console"])
        print(f"after {moment} deliveries: {role}")
        victims[role].kill()
    await sending
    await told.is_in_the_tables()


async def test_brokers_of_a_cluster_that_die_cost_nothing(tmp_path: Path) -> None:
    """Every record is on three, and two are needed: one may go; without two of them the spool takes what comes."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    order = random.Random(seed)
    async with cluster(tmp_path) as (addresses, brokers), installed(tmp_path, **addresses) as installation:
        told = Told(installation, 14)
        for dying in (1, 2):
            sending = asyncio.create_task(told.deliver(5))
            accepted = told.provider.done.accepted + order.randrange(10)
            await installation.until(lambda: told.provider.done.accepted > accepted, "deliveries")  # noqa: B023
            victims = order.sample(brokers.children, dying)
            before = [broker.restarts for broker in victims]
            print(f"after {accepted} deliveries: {', '.join(broker.command.name for broker in victims)}")
            for broker in victims:
                broker.signal(signal.SIGSTOP)
            if dying == 2:
                await installation.until(lambda: told.provider.done.statuses["spooled"] > 0, "the spool takes them")
            for broker in victims:
                broker.signal(signal.SIGKILL)
            await sending
            await told.is_in_the_tables()
            assert [broker.restarts for broker in victims] == [times + 1 for times in before]


async def test_disks_that_fill_up_refuse_and_keep_what_was_accepted(tmp_path: Path) -> None:
    """Those of the spool, of Kafka and of Postgres, each in its turn."""
    data = tmp_path / ".redrive"
    installation = Installation(tmp_path, **SECRETS)

    def family(service: str) -> list[psutil.Process]:
        found = installation.service(service)
        return [found, *found.children(recursive=True)]

    async with AsyncExitStack() as stack:
        spool = stack.enter_context(small_disk(data / "spool", 2, lambda: family("ingest")))
        kafka = stack.enter_context(small_disk(data / "kafka", 400, lambda: family("kafka")))
        postgres = stack.enter_context(small_disk(data / "postgres", 400, lambda: family("postgres")))
        stack.push_async_callback(installation.stop)
        await installation.up()
        told = Told(installation, 13)
        await told.deliver(3)

        installation.service("kafka").send_signal(signal.SIGSTOP)
        await told.deliver(1)
        assert told.provider.done.statuses["spooled"]
        spool.fill()
        sending = asyncio.create_task(told.deliver(3))
        await installation.until(lambda: told.provider.done.retries > 20, "a full spool refuses")
        spool.free()
        installation.service("kafka").send_signal(signal.SIGCONT)
        await sending
        await told.is_in_the_tables()

        postgres.fill()
        await told.deliver(3)
        await installation.until_ready("processors", expect=False)
        postgres.free()
        await told.is_in_the_tables()

        spooled = told.provider.done.statuses["spooled"]
        kafka.fill()
        await told.deliver(3)
        assert told.provider.done.statuses["spooled"] > spooled
        kafka.free()
        await told.is_in_the_tables()
