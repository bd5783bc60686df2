"""Acceptance: the real processes, started as a user starts them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Stack, fresh_database, fresh_topics
from tests.support import signing
from tests.support.processes import Installation
from tests.support.signing import SECRETS
from tests.support.stripe_only import TOML
from tests.support.told import Told, installed


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


@pytest.fixture
def stripe_only(tmp_path: Path, servers: dict[str, str]) -> Installation:
    """An installation, not started, with one source, whose secret stands in `.env`."""
    installation = Installation(
        tmp_path, **servers, **{name: value for name, value in signing.SECRETS.items() if not name.startswith("STRIPE")}
    )
    (tmp_path / "redrive.toml").write_text(TOML)
    return installation


@pytest.fixture(scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """With servers that `redrive up` starts, and starts again."""
    async with installed(tmp_path_factory.mktemp("told"), INGEST_WORKERS="2") as installation:
        yield Told(installation, 12)
