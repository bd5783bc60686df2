"""The log of an ingress tells an outage in a few lines, and in the order in which it went."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.embedded.embedded_kafka import EmbeddedKafka
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, write

TURNS = ("begun", "lost", "back", "spooling", "drained", "done")


@pytest.fixture(scope="module")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedKafka]:
    """Of the module's own: it is stopped."""
    folder = tmp_path_factory.mktemp("kafka")
    found = EmbeddedKafka(folder / "kafka", folder / "kafka.log", print)
    try:
        await found.start()
        yield found
    finally:
        await found.stop()


@contextmanager
def frozen(kafka: EmbeddedKafka) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    broker = psutil.Process(kafka.pid)
    broker.suspend()
    try:
        yield
    finally:
        broker.resume()


@pytest.fixture
async def installation(tmp_path: Path, kafka: EmbeddedKafka) -> Installation:
    # A broker that is merely slow must not pass for one that is away.
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "SPOOL_AFTER_SECONDS": "5"}
    found = Installation(tmp_path, **SECRETS, **environment)
    await found.redrive("topics", "--apply")
    return found


def told(installation: Installation) -> list[dict[str, Any]]:
    """Every line of the ingress."""
    lines = (installation.folder / ".redrive" / "logs" / "ingest.log").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def until_told(installation: Installation, outcome: str) -> None:
    await installation.until(lambda: outcome in {line["outcome"] for line in told(installation)}, f"{outcome} is told")


async def test_start_lost_spooling_back_drained_stop(installation: Installation, kafka: EmbeddedKafka) -> None:
    webhooks = write(Author(11, start=int(time.time()) - 200_000), 2).webhooks
    async with installation.serving("ingest"):
        provider = Provider(installation.ingest_url)
        await provider.deliver_all(webhooks[:3])
        with frozen(kafka):
            await provider.deliver_all(webhooks[3:])
        await until_told(installation, "drained")
        drained = await installation.metric("ingest", "redrive_ingest_spool_drained_total")

    lines = told(installation)
    story = [(line["action"], line["outcome"]) for line in lines if line["outcome"] in TURNS]
    assert story == [
        ("start", "begun"),
        ("append", "lost"),
        ("spool", "spooling"),
        ("append", "back"),
        ("spool", "drained"),
        ("stop", "begun"),
        ("stop", "done"),
    ]
    by_outcome = {line["outcome"]: line for line in lines}
    assert by_outcome["drained"]["records"] == drained > 0
    assert by_outcome["drained"]["since"] == by_outcome["spooling"]["since"]
    assert {by_outcome[outcome]["code"] for outcome in ("lost", "spooling")} == {"log_unavailable"}
    for line in lines:
        assert line["action"], line
        assert not line["message"].endswith((": ", ":")), line


async def test_a_start_without_kafka_says_so_and_that_it_is_over(
    installation: Installation, kafka: EmbeddedKafka
) -> None:
    webhooks = write(Author(12, start=int(time.time()) - 200_000), 1).webhooks
    async with AsyncExitStack() as stack:
        with frozen(kafka):
            await stack.enter_async_context(installation.serving("ingest"))
            await Provider(installation.ingest_url).deliver_all(webhooks)
            await until_told(installation, "retry")
        await until_told(installation, "drained")
    story = [line["outcome"] for line in told(installation) if line["outcome"] in TURNS]
    assert story == ["begun", "spooling", "back", "drained", "begun", "done"]
