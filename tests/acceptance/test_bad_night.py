"""What a proof and `redrive check` say, by the real processes: of records that nobody folds, of a view that somebody
replaced, and of a log that lost its end and got it back.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import Stack
from tests.support.processes import Installation
from tests.support.records import PARTITIONS, batch, produce
from tests.support.signing import SECRETS
from tests.support.topics import make_anew
from tests.support.waiting import until

TOPIC = "webhooks.stripe"
POOR = """
    CREATE OR REPLACE VIEW public.accounts AS
    SELECT source, customer_id, is_frozen, frozen_reason, frozen_at, subscription_id, subscription_status,
           subscription_tier, current_period_end, 0::bigint AS credit_balance
    FROM ({}) AS told
"""
"""Balance 0 for everyone."""


@pytest.fixture
async def bare(tmp_path: Path, servers: dict[str, str]) -> Installation:
    """Topics and tables, and no service that runs."""
    found = Installation(tmp_path, **servers, **SECRETS, REDRIVE_OPERATOR="ada")
    await found.redrive("topics", "--apply")
    return found


@pytest.fixture
async def database(servers: dict[str, str]) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers["DATABASE_URL"])
    try:
        yield connection
    finally:
        await connection.close()


async def until_folded(database: Any, records: int) -> None:
    async def is_folded() -> bool:
        sql = "SELECT coalesce(sum(next_offset), 0) FROM redrive.positions WHERE topic = $1"
        return bool(await database.fetchval(sql, TOPIC) == records)

    await until(is_folded, f"{records} records are folded")


async def proved(installation: Installation, expect: int, *more: str) -> Any:
    _, out = await installation.redrive("prove", "--json", *more, expect=expect)
    return json.loads(out)


async def checked(installation: Installation, expect: int = 0) -> Any:
    _, out = await installation.redrive("check", "--json", expect=expect)
    return json.loads(out)


async def test_records_that_nobody_folds_and_a_view_that_shows_other_rows_are_said(
    stack: Stack, bare: Installation, database: Any
) -> None:
    await produce(stack.servers, batch(TOPIC, range(30)))
    async with bare.serving("processors"):
        await until_folded(database, 30)
        found = await proved(bare, 0)
        assert (found["verdict"], found["behind"]["records"], found["losses"]) == ("equal", 0, [])
        _, out = await bare.redrive("check")
        assert "sound; every record on the log is folded" in out

    await produce(stack.servers, batch(TOPIC, range(30, 42)))
    found = await proved(bare, 0)
    assert (found["verdict"], found["counts"]["records"]) == ("equal", 30)
    assert (found["behind"]["records"], found["behind"]["topics"]) == (12, {TOPIC: 12})
    assert found["behind"]["as_of"]
    _, out = await bare.redrive("check")
    assert "sound; 12 records are on the log and not folded yet" in out
    found = await checked(bare)
    (warning,) = [one for one in found["warnings"] if "no position moves" in one]
    assert warning.startswith("12 records wait, and no position moves in webhooks.stripe/0 (4)")
    lag = [one for one in found["fold"]["partitions"] if one["topic"] == TOPIC]
    assert [(one["next_offset"], one["log_end"], one["records"], one["still"]) for one in lag] == [
        (10, 14, 4, True)
    ] * PARTITIONS

    await database.execute(POOR.format((await database.fetchval("SELECT pg_get_viewdef('accounts'::regclass)"))[:-1]))
    found = await proved(bare, 1)
    assert found["verdict"] == "different"
    assert found["differences"] == [{"table": "accounts", "key": {}, "columns": [], "kind": "definition"}]
    (fault,) = (await checked(bare, expect=78))["faults"]
    assert "public.accounts" in fault
    assert "`redrive migrate --apply`" in fault
    await bare.redrive("migrate", "--apply")
    await checked(bare)
    assert (await proved(bare, 0))["verdict"] == "equal"


async def test_a_log_that_lost_its_end_is_proved_again_once_every_record_is_back(
    stack: Stack, bare: Installation, database: Any
) -> None:
    await produce(stack.servers, batch(TOPIC, range(30)))
    async with bare.serving("processors"):
        await until_folded(database, 30)
    await make_anew(stack.servers, TOPIC)
    await produce(stack.servers, batch(TOPIC, range(6)))
    async with bare.serving("processors"):
        await until_folded(database, 6)
        found = await proved(bare, 1)
        assert (found["verdict"], {one["state"] for one in found["losses"]}) == ("incomplete", {"open"})
        await bare.redrive("prove", "--accept-loss", expect=2)

        # All but one are delivered again; then that one, too.
        await produce(stack.servers, batch(TOPIC, range(29)))
        await until_folded(database, 35)
        found = await proved(bare, 1)
        assert found["verdict"] == "incomplete"
        assert [reason for reason in found["reasons"] if "1 of the events that were there" in reason]
        await produce(stack.servers, batch(TOPIC, range(29, 30)))
        await until_folded(database, 36)
        found = await proved(bare, 0)
        assert (found["verdict"], {one["state"] for one in found["losses"]}) == ("equal", {"recovered"})


async def test_a_loss_that_nobody_can_mend_is_accepted_on_record(
    stack: Stack, bare: Installation, database: Any
) -> None:
    await produce(stack.servers, batch(TOPIC, range(30)))
    await database.execute("INSERT INTO redrive.lost_ranges VALUES (1, $1, 1, 40, 44)", TOPIC)
    async with bare.serving("processors"):
        await until_folded(database, 30)
    assert (await proved(bare, 1))["verdict"] == "incomplete"
    found = await proved(bare, 0, "--accept-loss", "--reason", "retention was set by mistake")
    (loss,) = found["losses"]
    assert (found["verdict"], loss["state"], loss["operator"]) == ("equal", "accepted", "ada")
    assert loss["reason"] == "retention was set by mistake"
    (noted,) = (await bare.redrive_json("audit", "list", "--action", "loss.accept"))["audit"]
    assert noted["details"] == {"lost": f"{TOPIC}:1:40-43"}
    found = await proved(bare, 0)
    assert (found["verdict"], found["losses"]) == ("equal", [loss])
