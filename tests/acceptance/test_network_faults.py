"""A slow, torn or partitioned network, and rebalances."""

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from deploy.embedded.embedded_postgres import EmbeddedPostgres
from deploy.embedded.ports import free_ports
from tests.support import forks
from tests.support.brokers import Brokers
from tests.support.network import Proxy, proxy
from tests.support.processes import Installation
from tests.support.told import Told, installed
from tests.support.waiting import limit, within

pytestmark = pytest.mark.thorough


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
