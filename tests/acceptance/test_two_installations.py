"""Two installations on one Kafka: each folds all of it into its own database, and says that the other one does."""

import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Stack, fresh_database
from tests.support import forks
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, write
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import until


@pytest.fixture
async def second(stack: Stack, template: str, tmp_path: Path, servers: dict[str, str]) -> AsyncIterator[Installation]:
    """The same Kafka, another database, another folder; nothing of it runs yet."""
    folder = tmp_path / "second"
    folder.mkdir()
    async with fresh_database(stack, template) as url:
        connection = await asyncpg.connect(url)
        try:
            # A copy of the template, as every database of a test's own.
            await connection.execute("UPDATE redrive.installation SET id = gen_random_uuid()")
        finally:
            await connection.close()
        yield Installation(folder, **{**servers, "DATABASE_URL": url}, **SECRETS)


async def test_each_folds_everything_and_names_the_other(installation: Installation, second: Installation) -> None:
    world = write(Author(32, start=int(time.time()) - 200_000), 12)
    provider = Provider(installation.ingest_url)
    half = len(world.webhooks) // 2
    await provider.deliver_all(world.webhooks[:half])
    async with second.serving("processors"):
        await provider.deliver_all(world.webhooks[half:])
        for one in (installation.address("DATABASE_URL"), second.environment["DATABASE_URL"]):
            connection = await asyncpg.connect(one)
            try:
                await until_folded(connection, world.events)
                await assert_tables_are_the_story(connection, world)
            finally:
                await connection.close()
        found = await installation.redrive_json("check")
        said = "\n".join(found["warnings"])
        assert "another installation also reads webhooks" in said
        assert "webhooks.stripe" in said
        assert found["fold"]["group"] not in said
        command = await forks.redrive(
            "sources", "pause", "stripe", cwd=second.folder, env=second.environment, stdout=PIPE, stderr=PIPE
        )
        said = " ".join((await command.communicate())[1].decode().split())
        assert "another installation also reads webhooks.stripe" in said
        assert "this change applies to it, too" in said
        await second.redrive("sources", "resume", "stripe")
    assert "another installation also reads" in started(second)
    assert "another installation also reads" not in started(installation)


def started(installation: Installation) -> str:
    log = installation.folder / ".redrive" / "logs" / "processors.log"
    return log.read_text()


async def test_a_copy_of_the_database_takes_partitions_and_is_named_for_it(
    installation: Installation, stack: Stack, template: str, second: Installation
) -> None:
    """It has the installation's id, and so is in its group; the lag of what it takes is told."""
    ours = await asyncpg.connect(installation.address("DATABASE_URL"))
    theirs = await asyncpg.connect(second.environment["DATABASE_URL"])
    try:
        await theirs.execute(
            "UPDATE redrive.installation SET id = $1", await ours.fetchval("SELECT id FROM redrive.installation")
        )
        async with second.serving("processors"):

            async def both_are_named() -> bool:
                warnings = (await installation.redrive_json("check"))["warnings"]
                return any("several places fold for this database" in text for text in warnings)

            await until(both_are_named, "check names both places")
            await installation.redrive("send", "stripe", "--count", "40")

            async def lags() -> bool:
                return await installation.metric("processors", "redrive_processors_lag_records") > 0

            await until(lags, "the lag of partitions that the copy has")
        assert "several places fold for this database" in started(second)
        # Once it is gone, all of it is folded here.
        await until(lambda: caught_up(installation), "no lag")
    finally:
        await ours.close()
        await theirs.close()


async def caught_up(installation: Installation) -> bool:
    return await installation.metric("processors", "redrive_processors_lag_records") == 0
