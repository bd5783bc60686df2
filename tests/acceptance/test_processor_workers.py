"""Invariants 5 and 7 across processes: members of one group share the partitions, and one that is killed costs nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from schemas.topics import fold_group
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.signing import SECRETS
from tests.support.story import Author, write
from tests.support.tables import assert_tables_are_the_story, until_folded
from tests.support.waiting import limit

pytestmark = pytest.mark.thorough


WORKERS = 2


@pytest.fixture
async def installation(tmp_path: Path, servers: dict[str, str]) -> AsyncIterator[Installation]:
    """`redrive up` with several processes of the processors."""
    found = Installation(tmp_path, **servers, **SECRETS, PROCESSORS_WORKERS=str(WORKERS))
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


async def held_by_members(installation: Installation) -> list[set[tuple[str, int]]]:
    """The partitions of each member of the group that has any."""
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    group = fold_group(await connection.fetchval("SELECT id FROM redrive.installation"))
    await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=installation.address("KAFKA_BOOTSTRAP_SERVERS"))
    await admin.start()
    try:
        [response] = await admin.describe_consumer_groups([group])
        members = response.to_object()["groups"][0]["members"]
    finally:
        await admin.close()
    found = []
    for member in members:
        if not member["member_assignment"]:
            # In the midst of a rebalance.
            continue
        assigned = ConsumerProtocolMemberAssignment.decode(member["member_assignment"]).assignment
        held = {(topic, number) for topic, numbers in assigned for number in numbers}
        found += [held] if held else []
    return found


async def until_shared(installation: Installation) -> None:
    async with limit("the members share the partitions"):
        while len(await held_by_members(installation)) < WORKERS:
            await asyncio.sleep(0.2)


async def test_processes_share_the_partitions_and_one_that_is_killed_costs_nothing(installation: Installation) -> None:
    await until_shared(installation)
    one, other = await held_by_members(installation)
    assert not one & other
    world = write(Author(31, start=int(time.time()) - 200_000), 25)
    provider = Provider(installation.ingest_url)
    half = len(world.webhooks) // 2
    await provider.deliver_all(world.webhooks[:half])
    victim, *_ = installation.workers("processors")
    delivering = asyncio.create_task(provider.deliver_all(world.webhooks[half:]))
    await installation.until(lambda: provider.done.accepted > half + 50, "deliveries are on their way")
    victim.kill()
    await asyncio.to_thread(psutil.wait_procs, [victim], 10)
    await delivering
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        await until_folded(connection, world.events)
        await assert_tables_are_the_story(connection, world)
        # What the killed process had folded it need not have committed, but nothing is folded twice in effect.
        positions = await connection.fetchval("SELECT sum(next_offset) FROM redrive.positions")
        assert positions >= provider.done.statuses["accepted"]
    finally:
        await connection.close()
    async with limit("a process in the killed one's place"):
        while len([found for found in installation.workers("processors") if found.pid != victim.pid]) < WORKERS:
            await asyncio.sleep(0.1)
    await until_shared(installation)
    await assert_one_page(installation)


async def assert_one_page(installation: Installation) -> None:
    """Whichever process answers speaks for all: every partition is caught up, and each stands there once."""
    name = "redrive_processors_lag_records"
    async with limit("no lag"):
        while await installation.metric("processors", name):
            await asyncio.sleep(0.2)
    held = set[tuple[str, int]]().union(*await held_by_members(installation))
    for topic, partition in sorted(held)[:3]:
        labels = (f'topic="{topic}"', f'partition="{partition}"')
        assert await installation.metric("processors", name, *labels) == 0
    folded = await installation.metric("processors", "redrive_processors_records_total", 'outcome="applied"')
    assert folded > 0


async def test_a_second_parent_on_the_port_is_misconfigured(installation: Installation) -> None:
    settled = {found.pid for found in installation.workers("processors")}
    environment = {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"}
    installation.environment |= {name: installation.address(name) for name in environment}
    _, said = await installation.redrive(
        "processors", "--workers", "2", "--data", str(installation.folder / "other"), expect=78
    )
    assert "set PROCESSORS_PORT" in said
    assert {found.pid for found in installation.workers("processors")} == settled
