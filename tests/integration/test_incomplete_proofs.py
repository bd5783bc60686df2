"""What a proof can't know, and never calls equal."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from replay.log.reader import LogReader
from replay.log.topic_ids import Logs
from replay.prove.prover import Prover, Versions
from replay.selection.selection import Range
from schemas.errors import Misconfigured
from tests.conftest import Stack
from tests.support.proofs import is_nothing_left, named
from tests.support.proving import NOTHING, Prove, check, connected
from tests.support.topics import delete_records
from tests.support.waiting import until


async def test_a_proof_that_is_broken_off_leaves_nothing_behind(
    stack: Stack, folded: str, connection: Any, database_url: str
) -> None:
    begun, rest = asyncio.Event(), asyncio.Event()

    class Stuck(LogReader):
        async def read(
            self, ranges: Sequence[Range], logs: Logs | None = None
        ) -> AsyncIterator[tuple[Range, list[Any]]]:
            async for found in super().read(ranges, logs):
                yield found
                begun.set()
                await rest.wait()

    shadow = await asyncpg.connect(database_url)
    async with connected(database_url) as live, Stuck(stack.cluster) as reader:
        prover = Prover(live, shadow, Versions.of_this_process())
        proving = asyncio.create_task(prover.prove(reader, NOTHING))
        await begun.wait()
        assert not await is_nothing_left(connection)
        # As kill -9 does: nobody says goodbye.
        shadow.terminate()
        rest.set()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await proving
    await until(lambda: is_nothing_left(connection), "the server drops the tables")


async def test_what_can_not_be_known_is_never_equal(
    stack: Stack, folded: str, prove: Prove, connection: Any, database_url: str
) -> None:
    proved = await prove()
    lost = await connection.execute("INSERT INTO redrive.lost_ranges VALUES (1, $1, 0, 25, 29)", folded)
    assert lost
    made = await prove()
    assert (made.verdict, made.differences) == ("incomplete", [])
    assert made.reasons == [f"{folded}/0: offsets 25 to 28 were lost; nobody knows all that was there"]
    await connection.execute("DELETE FROM redrive.lost_ranges")

    await connection.execute("UPDATE redrive.positions SET next_offset = 25 WHERE partition = 2")
    made = await prove()
    assert made.verdict == "incomplete"
    assert made.reasons == [f"{folded}/2 was folded up to offset 25, and the log ends at 20"]
    await connection.execute("UPDATE redrive.positions SET next_offset = 20")

    await connection.execute("INSERT INTO redrive.positions VALUES (1, 'webhooks.gone', 0, 7)")
    made = await prove()
    assert made.verdict == "incomplete"
    assert made.reasons == [
        "webhooks.gone/0 is not in the log any more, and was folded up to offset 7; nobody knows all that was there"
    ]
    await connection.execute("DELETE FROM redrive.positions WHERE topic = 'webhooks.gone'")
    assert (await prove()).verdict == "equal"

    await delete_records(stack.servers, folded, 1, 3)
    made = await prove()
    assert made.verdict == "incomplete"
    gone = f"{folded}/1: the log starts at offset 3; what was before is gone"
    assert made.reasons == [f"{gone}; 3 of the events that were there are not on the log"]
    assert {kind for _, _, kind, _ in named(made)} == {"unexpected"}
    assert made.differences_total == 3
    again = await check(stack, database_url, proved)
    assert (again.verdict, again.reasons) == ("incomplete", [gone])


async def test_a_generation_that_other_code_folded_is_never_equal(
    stack: Stack, folded: str, prove: Prove, connection: Any, database_url: str
) -> None:
    ours = Versions.of_this_process().projections
    now = ours["stripe"]
    await connection.execute(
        "INSERT INTO redrive.generation_versions (generation, projection, version) VALUES (1, 'stripe', $1), (2, 'stripe', 7)",
        now,
    )
    proved = await prove()
    assert proved.verdict == "equal"
    newer = Versions("0.2.0", {**ours, "stripe": now + 1})
    made = await prove(ours=newer)
    assert made.verdict == "incomplete"
    said = f"folded by version {now} of the projection stripe, and this is version {now + 1}"
    assert made.reasons == [f"generation 1 was {said}: `redrive rebuild`"]
    again = await check(stack, database_url, proved, newer)
    assert again.verdict == "incomplete"
    assert again.reasons == [f"the certificate was {said}"]
    assert (await check(stack, database_url, proved)).verdict == "equal"


async def test_a_database_of_another_version_is_misconfigured(prove: Prove, connection: Any) -> None:
    await connection.execute("ALTER TABLE gen_1.payments DROP COLUMN state_version")
    with pytest.raises(Misconfigured, match="redrive migrate"):
        await prove()
