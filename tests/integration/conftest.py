"""Parts of the product, in this process, on the real Kafka and Postgres."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.topics import Topics
from deploy.wiring import Runtime
from processors import projections
from processors.store import Store
from processors.worker import Worker
from replay.prove.certificate import Certificate
from replay.prove.prover import Versions
from replay.tables.generations import RebuildPorts
from tests.conftest import Stack
from tests.support import consoles, jobs, rebuilds, replays, workers
from tests.support.consoles import Call, Consoles, running_console, serving_console
from tests.support.folding import NoLetters, fold_live
from tests.support.proving import NOTHING, RECORDS, Prove, proved
from tests.support.records import batch, produce
from tests.support.replays import never_folded
from tests.support.runtimes import runtime_of
from tests.support.stores import Letters
from tests.support.waiting import until


@pytest.fixture
def runtime(stack: Stack, database_url: str, tmp_path: Path) -> Runtime:
    """Of an installation without sources."""
    return runtime_of(stack, tmp_path, database_url)


@pytest.fixture
def prove(stack: Stack, database_url: str) -> Prove:
    """As the command does it."""

    async def run(advance: Any = NOTHING, ours: Versions | None = None, **more: Any) -> Certificate:
        return await proved(stack, database_url, advance, ours, **more)

    return run


@pytest.fixture
async def folded(stack: Stack, topic: str, connection: Any) -> str:
    """A topic of sixty payments, folded."""
    await produce(stack.servers, batch(topic, range(RECORDS)))
    await fold_live(stack, connection, topic)
    return topic


@pytest.fixture
async def folded_topic(stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path) -> str:
    """A topic of 90 payments, folded by a live worker that has gone."""
    await produce(stack.servers, batch(topic, range(replays.RECORDS)))
    async with workers.run_worker(stack, database_url, topic, topic, tmp_path):
        await until(workers.folded(connection, replays.RECORDS), "the fold")
    return topic


@pytest.fixture
async def copies(stack: Stack, topic: str) -> str:
    """A topic of two partitions, which takes no batch of more than 100 KB."""
    name = topic.replace("webhooks.", "copies.")
    async with Topics(stack.cluster) as topics:
        await topics.create({name: {"max.message.bytes": "100000"}}, partitions=2, replication=1)

        async def is_told() -> bool:
            return name in await topics.names()

        await until(is_told, "the broker tells of the topic")
    return name


@pytest.fixture
async def console(stack: Stack, database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a console with the source `stripe`."""
    async with running_console(Consoles(stack, database_url, tmp_path, "stripe")) as url:
        yield url


@pytest.fixture
async def pages(runtime: Runtime) -> AsyncIterator[str]:
    """The URL of a console without sources, which runs nothing."""
    async with serving_console(runtime) as url:
        yield url


@pytest.fixture
def call(console: str) -> Call:
    """(method, path, JSON) -> (status, document)."""
    return partial(consoles.call, console)


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def store(letters: Letters) -> Store:
    return Store(1, letters)


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Worker]:
    """A worker of the processors without its consumer: the test hands the records on."""
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=2)
    yield Worker(pool, NoLetters())
    await pool.close()


@pytest.fixture
async def log(stack: Stack, topic: str, connection: Any) -> str:
    """A topic of ninety payments that nobody has folded."""
    await never_folded(stack, connection, topic, jobs.RECORDS)
    return topic


@pytest.fixture
async def ports(stack: Stack, database_url: str) -> AsyncIterator[RebuildPorts]:
    """What a rebuild needs, on the test's database."""
    async with rebuilds.rebuilding(stack, database_url) as found:
        yield found


@pytest.fixture
async def spoiled_topic(
    stack: Stack,
    folded_topic: str,
    database_url: str,
    connection: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The same with 30 more, which met a bug."""
    with monkeypatch.context() as patch:
        patch.setitem(projections.PROJECTIONS, "stripe", rebuilds.with_a_bug(projections.PROJECTIONS["stripe"]))
        await produce(stack.servers, batch(folded_topic, range(replays.RECORDS, replays.RECORDS + 30)))
        async with workers.run_worker(stack, database_url, folded_topic, folded_topic, tmp_path):
            await until(workers.folded(connection, replays.RECORDS + 30), "the spoiled part")
    assert await rebuilds.failed(connection) == 30
    return folded_topic
