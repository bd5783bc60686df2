"""Invariants 1, 7 and 9 under faults, on the real processes: whatever was answered 2xx is in the tables, once.

After each fault the whole story so far is compared. What is random prints its seed; `make soak` does more of it.
"""

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.soak.census import by_role
from tests.support.brokers import cluster
from tests.support.disks import small_disk
from tests.support.processes import Installation
from tests.support.signing import SECRETS
from tests.support.told import Told, connected, installed

pytestmark = pytest.mark.thorough
KILLS = 4


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
