"""Acceptance: the real processes, started as a user starts them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Stack, fresh_database, fresh_topics
from tests.support.processes import Installation
from tests.support.signing import SECRETS


@pytest.fixture
async def servers(stack: Stack, template: str) -> AsyncIterator[dict[str, str]]:
    """The run's Kafka without a topic, and a database of the test's own: an installation's environment.

    Nobody may kill them. Who does takes `embedded`.
    """
    await fresh_topics(stack)
    async with fresh_database(stack, template) as url:
        yield {"KAFKA_BOOTSTRAP_SERVERS": stack.servers, "DATABASE_URL": url, "TOPIC_PARTITIONS": "3"}
    await fresh_topics(stack)


@pytest.fixture
async def installation(tmp_path: Path, servers: dict[str, str]) -> AsyncIterator[Installation]:
    """`redrive up`, ready, with known secrets."""
    found = Installation(tmp_path, **servers, **SECRETS)
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Installation]:
    """The same with a Kafka and a Postgres that it starts itself, and starts again when they are killed."""
    found = Installation(tmp_path, **SECRETS)
    try:
        await found.up()
        yield found
    finally:
        await found.stop()
