"""A job through kills, pauses and takeovers at random moments, on real processes: its end is the same (invariant 8).

The seed is printed; `KILL_SEED` takes one again.
"""

import asyncio
import contextlib
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from replay.jobs import ledger
from schemas.errors import InvalidTransition
from tests.conftest import Stack
from tests.support.amounts import new_seed
from tests.support.consoles import Consoles
from tests.support.replays import ADA, everything, never_folded, put, state_of
from tests.support.waiting import until

RECORDS = 240
RATE = 60.0
ACTS = 5


async def runner_of(connection: Any, replay: Any) -> int | None:
    """The process that holds it, if one does."""
    entry = await ledger.brief(connection, replay)
    is_free = await connection.fetchval(
        "SELECT pg_try_advisory_xact_lock(hashtext('redrive.replay'), hashtext($1::uuid::text))", replay
    )
    return None if is_free or entry["state"] != "running" else int(entry["runner"].rpartition("/")[2])


async def test_whatever_is_killed_each_record_is_redriven_and_counted_once(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    seed = int(os.environ.get("KILL_SEED") or new_seed())
    print(f"KILL_SEED={seed}")
    order = random.Random(seed)
    await never_folded(stack, connection, topic, RECORDS)
    consoles = Consoles(stack, database_url, tmp_path, topic.removeprefix("webhooks."))
    # Planned before anybody is there to run it.
    replay = await put(stack, connection, everything(topic), rate=RATE)
    running = [process for process, _ in await asyncio.gather(consoles.start(), consoles.start())]
    hasty = await asyncpg.connect(database_url)
    try:
        for _ in range(ACTS):
            act = order.choice(["kill", "kill", "pause", "kill while paused"])
            await until(lambda: has_runner_or_end(connection, replay), "somebody runs it")
            reached = (await ledger.brief(connection, replay))["records"] + order.randrange(40)
            await until(partial(has_reached, connection, replay, reached), "so far")
            pid = await runner_of(connection, replay)
            if pid is None:
                continue
            if act != "kill":
                with contextlib.suppress(InvalidTransition):
                    await ledger.change(hasty, replay, "pause", ADA)
            if act != "pause":
                killed = next(process for process in running if process.pid == pid)
                killed.kill()
                await killed.wait()
                running.remove(killed)
                running.append((await consoles.start())[0])
            if await state_of(connection, replay) == "paused":
                await ledger.change(hasty, replay, "resume", ADA)
        await until(lambda: has_reached(connection, replay, RECORDS), "its end")
        await until(lambda: is_done(connection, replay), "its end")
    finally:
        await hasty.close()
        for process in running:
            process.terminate()
        await asyncio.gather(*(process.wait() for process in running))
    entry = await ledger.show_replay(connection, replay)
    assert (entry["records"], entry["events"], entry["rows_changed"], entry["dead"]) == (RECORDS, RECORDS, RECORDS, 0)
    assert all(part["done"] == part["offsets"] == part["next_offset"] for part in entry["partitions"])
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS


async def has_runner_or_end(connection: Any, replay: Any) -> bool:
    return await runner_of(connection, replay) is not None or await is_done(connection, replay)


async def has_reached(connection: Any, replay: Any, records: int) -> bool:
    entry = await ledger.brief(connection, replay)
    return bool(entry["records"] >= records or entry["state"] == "done")


async def is_done(connection: Any, replay: Any) -> bool:
    return await state_of(connection, replay) == "done"
