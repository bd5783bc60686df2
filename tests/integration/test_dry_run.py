"""What a replay would change, said before it runs: on the real log, by the command's own parts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from deploy.terminal.dry_run_folding import foresee, print_foreseen
from deploy.terminal.output import out
from replay.jobs.dry_run import TableChange, dry_run
from replay.log.reader import LogReader
from replay.log.topic_ids import Logs
from replay.selection.selection import Range
from replay.tables.diff import Sum, Transition
from tests.conftest import Stack
from tests.support.records import payment, produce, record, stripe_event
from tests.support.replays import everything, pinned_to, planned, rerun
from tests.support.tables import physical_rows
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

RECORDS = 30
_TEMPORARY = """
    SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname LIKE 'pg_temp%'
"""


def subscription(number: int, status: str, created: int) -> bytes:
    data = {"id": f"sub_{number}", "object": "subscription", "customer": f"cus_{number}", "status": status}
    return stripe_event(f"evt_{status}_{number}", "customer.subscription.updated", data, created)


@pytest.fixture
async def outage(stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path) -> str:
    """A topic that was folded, and whose newer half is then missing from the tables: as it was before an outage."""
    old = [payment(n, amount=100 + n) for n in range(RECORDS)] + [subscription(n, "active", 1000) for n in range(3)]
    new = [payment(n, amount=100 + n) for n in range(RECORDS, 2 * RECORDS)]
    new += [subscription(n, "unpaid", 2000) for n in range(3)] + [b'{"id": "evt_broken"'] * 2
    for bodies, total in ((old, len(old)), (new, len(old) + len(new))):
        await produce(stack.servers, [record(topic, "stripe", body, partition=n % 3) for n, body in enumerate(bodies)])
        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await until(folded(connection, total), "the fold")
        if bodies is old:
            await connection.execute("CREATE SCHEMA kept")
            for table in ("payments", "subscriptions"):
                await connection.execute(f"CREATE TABLE kept.{table} AS SELECT * FROM gen_1.{table}")
    for table in ("payments", "subscriptions"):
        await connection.execute(f"TRUNCATE gen_1.{table}")
        await connection.execute(f"INSERT INTO gen_1.{table} SELECT * FROM kept.{table}")
    return topic


async def test_what_an_outage_left_out_is_said_before_it_is_mended(
    stack: Stack, outage: str, database_url: str, connection: Any
) -> None:
    stands = await physical_rows(connection)
    plan = await planned(stack, connection, everything(outage))
    async with LogReader(stack.cluster) as reader:
        said = await foresee(reader, connection, plan)
    assert await physical_rows(connection) == stands
    assert (said.generation, said.dead) == (1, 2)
    assert said.tables == {"payments": TableChange(RECORDS, 0), "subscriptions": TableChange(0, 3)}
    assert said.diff.views["subscriptions"].transitions == [Transition("status", "active", "unpaid", 3)]
    assert said.diff.views["accounts"].transitions == [Transition("is_frozen", "false", "true", 3)]
    assert said.diff.views["payments"].sums == [Sum("amount", "eur", Decimal(sum(range(130, 160))))]
    entry = await rerun(stack, database_url, connection, everything(outage))
    assert entry["rows_changed"] == RECORDS + 3
    async with LogReader(stack.cluster) as reader:
        again = await foresee(reader, connection, plan)
    assert (again.tables, again.diff.is_equal) == ({}, True)


async def test_people_read_what_would_change(stack: Stack, outage: str, connection: Any) -> None:
    plan = await planned(stack, connection, everything(outage))
    async with LogReader(stack.cluster) as reader:
        said = await foresee(reader, connection, plan)
    with out.capture() as printed:
        print_foreseen(said)
    lines = [" ".join(line.split()) for line in printed.get().splitlines()]
    assert "2 events would be dead letters again" in lines
    assert "subscriptions.status 3 active → unpaid" in lines
    assert f"payments.amount +{sum(range(130, 160))} eur" in lines
    assert any(line.endswith("sub_0 status active unpaid") for line in lines)


async def test_a_generation_that_older_code_folded_is_one_for_a_rebuild(
    stack: Stack, topic: str, connection: Any
) -> None:
    for generation, projection, version in ((1, "stripe", 0), (1, "twilio", 10**6), (2, "aircall", 0)):
        await connection.execute(
            "INSERT INTO redrive.generation_versions VALUES ($1, $2, $3)"
            " ON CONFLICT (generation, projection) DO UPDATE SET version = EXCLUDED.version",
            *(generation, projection, version),
        )
    async with LogReader(stack.cluster) as reader:
        said = await foresee(reader, connection, pinned_to(everything(topic), []))
    assert said.older_code == ["stripe"]
    with out.capture() as printed:
        print_foreseen(said)
    assert "`redrive rebuild`" in printed.get()


class Stuck:
    """A log that gives one batch, and then no answer."""

    def __init__(self, records: Sequence[Any]) -> None:
        self._records = records
        self.is_stuck = asyncio.Event()

    async def read(self, ranges: Sequence[Range], logs: Logs) -> AsyncIterator[tuple[Range, Sequence[Any]]]:
        yield ranges[0], self._records
        self.is_stuck.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("end", ["cancelled", "killed"])
async def test_who_is_stopped_half_way_leaves_nothing_behind(
    database_url: str, connection: Any, topic: str, end: str
) -> None:
    reader = Stuck([record(topic, "stripe", payment(1))])
    plan = pinned_to(everything(topic), [Range(topic, 0, 0, 9)])
    other = await asyncpg.connect(database_url)
    running = asyncio.create_task(dry_run(cast(LogReader, reader), other, plan, lambda _: None))
    try:
        await reader.is_stuck.wait()
        assert await connection.fetchval(_TEMPORARY) > 0
        if end == "killed":
            # What Postgres sees of a process that was killed.
            other.terminate()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert other.is_closed() == (end == "killed")

        async def is_clean() -> bool:
            return bool(await connection.fetchval(_TEMPORARY) == 0)

        await until(is_clean, "Postgres to clean up")
    finally:
        await other.close()
