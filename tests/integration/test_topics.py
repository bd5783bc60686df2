"""Topics over a broker that goes away: told as `Unavailable`, which a service survives."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.embedded.embedded_kafka import EmbeddedKafka
from deploy.topics import Topics
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.topics import LOG_CONFIG


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[EmbeddedKafka]:
    """A broker of the test's own, which it may stop."""
    found = EmbeddedKafka(tmp_path / "kafka", tmp_path / "kafka.log", print)
    try:
        await found.start()
        yield found
    finally:
        await found.stop()


async def test_a_broker_that_goes_away_in_between_is_unavailable(kafka: EmbeddedKafka) -> None:
    wanted = {"webhooks.one": LOG_CONFIG}
    async with Topics(Cluster(kafka.bootstrap_servers)) as topics:
        assert await topics.create(wanted, partitions=1, replication=1) == ["webhooks.one"]
        assert "webhooks.one" in await topics.names()
        await kafka.stop()
        for asked in (topics.names(), topics.states(wanted), topics.create(wanted, 1, 1)):
            with pytest.raises(Unavailable):
                await asked
