"""Parts of the product, in this process, on the real Kafka and Postgres."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy.topics import Topics
from replay.prove.certificate import Certificate
from replay.prove.prover import Versions
from tests.conftest import Stack
from tests.support import consoles, replays, workers
from tests.support.consoles import Call, Consoles, running_console
from tests.support.folding import fold_live
from tests.support.proving import NOTHING, RECORDS, Prove, proved
from tests.support.records import batch, produce
from tests.support.waiting import until


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
def call(console: str) -> Call:
    """(method, path, JSON) -> (status, document)."""
    return partial(consoles.call, console)
