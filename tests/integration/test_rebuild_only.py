"""Some tables are folded again, the others are copied, and the snapshot of an earlier time."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy import generation_check
from processors import projections
from replay.rebuild import lifecycle, snapshot
from replay.rebuild.snapshot import SnapshotOrder
from replay.tables import generations
from replay.tables.folding import code
from replay.tables.generations import RebuildPorts
from schemas.errors import InvalidSelection, InvalidTransition
from tests.conftest import Stack
from tests.support.rebuilds import (
    TESTER,
    apply,
    fact_rows,
    live_and_previous,
    positions_of,
    rebuild,
    rebuilding,
    rollback,
)
from tests.support.records import batch, produce
from tests.support.replays import RECORDS, everything, rerun
from tests.support.topics import make_anew
from tests.support.waiting import until
from tests.support.workers import folded, run_worker


async def test_only_some_tables_are_folded_anew_and_the_others_are_copied(
    stack: Stack, spoiled_topic: str, database_url: str, ports: RebuildPorts, connection: Any, tmp_path: Path
) -> None:
    """A row that somebody wrote by hand stays in a table that is copied, and goes from one that is folded."""
    await connection.execute("INSERT INTO gen_1.invoices (source, invoice_id) VALUES ('x', 'by hand')")
    await connection.execute("INSERT INTO gen_1.payments (source, payment_intent_id) VALUES ('x', 'by hand')")
    generation = await lifecycle.begin(connection, ports, frozenset({"payments"}), TESTER)
    await produce(stack.servers, batch(spoiled_topic, range(RECORDS + 30, RECORDS + 60)))
    async with run_worker(stack, database_url, spoiled_topic, spoiled_topic, tmp_path):

        async def went_on() -> bool:
            return sum((await positions_of(connection, 1)).values()) == RECORDS + 60

        await until(went_on, "what came after the cut")
    await rebuild(ports, frozenset({"payments"}))
    await apply(ports, generation.number)
    assert await connection.fetchval("SELECT count(*) FROM invoices") == 1
    assert await connection.fetchval("SELECT count(*) FROM payments WHERE amount = 100") == RECORDS + 60
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS + 60
    with pytest.raises(InvalidSelection):
        generations.tables_named(("no_such_table",))


async def test_what_a_replay_repairs_after_tables_were_copied_is_not_taken_back_by_a_flip(
    stack: Stack, folded_topic: str, database_url: str, ports: RebuildPorts, connection: Any
) -> None:
    await connection.execute("DELETE FROM gen_1.payments WHERE payment_intent_id < 'pi_5'")
    copied = await rebuild(ports, frozenset({"invoices"}))
    await rerun(stack, database_url, connection, everything(folded_topic))
    repaired = await fact_rows(connection, "gen_1")
    with pytest.raises(InvalidTransition, match=r"generation 2 lacks what replay .* has changed in generation 1 since"):
        await apply(ports, copied.number)
    assert await live_and_previous(connection) == (1, None)
    await lifecycle.drop(connection, copied.number, TESTER)
    await apply(ports, (await rebuild(ports, frozenset({"invoices"}))).number)
    assert await fact_rows(connection, "gen_3") == repaired
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS


async def test_copies_of_a_generation_that_is_live_no_more_are_not_applied(
    folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    await rebuild(ports, frozenset({"invoices"}))
    await apply(ports, (await rebuild(ports)).number)
    with pytest.raises(InvalidTransition, match="generation 2 copied tables from generation 1, and 3 is live now"):
        await apply(ports, 2)
    await apply(ports, 2, is_loss_accepted=True)
    assert await live_and_previous(connection) == (2, 3)


async def test_what_a_replay_repaired_since_is_not_taken_back_by_a_rollback(
    stack: Stack, folded_topic: str, database_url: str, ports: RebuildPorts, connection: Any
) -> None:
    """A generation that was live is no function of the log: whatever damaged it, the replay repaired its successor."""
    await connection.execute("DELETE FROM gen_1.payments WHERE payment_intent_id < 'pi_5'")
    await apply(ports, (await rebuild(ports, frozenset({"invoices"}))).number)
    await rollback(ports)
    await apply(ports, 2)
    await rerun(stack, database_url, connection, everything(folded_topic))
    for refused in (rollback(ports), apply(ports, 1)):
        with pytest.raises(InvalidTransition, match=r"generation 1 lacks what replay .* has changed in generation 2"):
            await refused
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS
    assert await live_and_previous(connection) == (2, 1)


BEFORE_IDS: Final = "UPDATE redrive.generations SET cut_logs = '[]'"
# As of a worker whose transaction began before the tables were copied, or of a clock that was set back.
EARLIER: Final = "UPDATE redrive.lost_ranges SET noticed_at = noticed_at - interval '1 hour'"


@pytest.mark.parametrize("known", [BEFORE_IDS, EARLIER])
async def test_copied_tables_get_what_is_at_offsets_below_the_cut_of_a_topic_made_anew(
    stack: Stack, folded_topic: str, database_url: str, ports: RebuildPorts, connection: Any, tmp_path: Path, known: str
) -> None:
    """The copy has none of it, and no flip may lose it."""
    await rebuild(ports, frozenset({"invoices"}))
    await make_anew(stack.servers, folded_topic)
    await produce(stack.servers, batch(folded_topic, range(200, 230)))
    await produce(stack.servers, batch(folded_topic, range(RECORDS)))
    async with run_worker(stack, database_url, folded_topic, folded_topic, tmp_path):

        async def is_folded() -> bool:
            return sum((await positions_of(connection, 1)).values()) == RECORDS + 30

        await until(is_folded, "the new log")
    await connection.execute(known)
    live = await fact_rows(connection, "gen_1")
    await apply(ports, 2, is_loss_accepted=True)
    assert await fact_rows(connection, "gen_2") == live


async def test_a_table_that_is_copied_keeps_the_age_of_the_code_that_folded_it(
    stack: Stack, folded_topic: str, database_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = projections.stripe.VERSION
    monkeypatch.setattr(projections.stripe, "VERSION", now + 1)
    monkeypatch.setattr(projections.retell, "VERSION", projections.retell.VERSION + 1)
    async with rebuilding(stack, database_url) as newer:
        generation = await rebuild(newer, frozenset({"payments", "calls"}))
    older = await generations.older_projections(connection, generation.number, code())
    assert older == {"stripe": (now, now + 1)}


async def test_the_state_of_a_moment_is_left_in_a_schema_of_its_own(
    stack: Stack, topic: str, database_url: str, ports: RebuildPorts, connection: Any, tmp_path: Path
) -> None:
    records = batch(topic, range(40))
    for number, one in enumerate(records):
        # Later offsets may carry earlier times.
        one.timestamp = 1_760_000_000_000 + 1000 * ((number * 7) % 40)
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 40), "the fold")
    moment = SnapshotOrder("then", 1_760_000_000_000 + 15_000)
    entry = await snapshot.make(ports, moment, TESTER, lambda *_: None)
    assert (entry["state"], entry["as_of"]) == ("ready", moment.at)
    assert await connection.fetchval("SELECT count(*) FROM scratch_then.payments") == 15
    assert await connection.fetchval("SELECT count(*) FROM payments") == 40
    assert await connection.fetchval("SELECT count(*) FROM redrive.positions") == 3
    with pytest.raises(InvalidTransition, match="the snapshot then exists"):
        await snapshot.make(ports, moment, TESTER, lambda *_: None)
    await snapshot.drop(connection, "then", TESTER)
    for name in ("x_facts", "X", "x; DROP"):
        with pytest.raises(InvalidSelection):
            SnapshotOrder(name, 0)

    # One that fails leaves nothing, and neither does one whose process was killed.
    def broken(_: str, __: Any) -> Any:
        raise OSError("the disk is full")

    async with rebuilding(stack, database_url, foldings=broken) as failing:
        with pytest.raises(OSError, match="full"):
            await snapshot.make(failing, moment, TESTER, lambda *_: None)
    assert await snapshot.describe_all(connection) == []
    await connection.execute("INSERT INTO redrive.scratches VALUES ('then', 'building', now(), 'x', 'x')")
    await connection.execute("CREATE SCHEMA scratch_then; CREATE SCHEMA scratch_then_facts")
    await snapshot.sweep(connection)
    assert await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'scratch%'") == 0


async def test_no_state_of_the_past_is_made_of_a_log_that_is_gone(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    await admin.delete_topics([folded_topic])
    await admin.close()

    async def is_gone() -> bool:
        async with ports.open_log() as reader:
            return not await reader.extents({(folded_topic, 0)})

    await until(is_gone, "the topic is gone")
    moment = SnapshotOrder("then", 4_000_000_000_000)
    with pytest.raises(InvalidTransition, match=f"no longer holds {folded_topic}:0:0-"):
        await snapshot.make(ports, moment, TESTER, lambda *_: None)
    assert await snapshot.describe_all(connection) == []


async def test_no_snapshot_is_made_of_a_topic_that_was_created_again(
    stack: Stack, folded_topic: str, database_url: str, ports: RebuildPorts, connection: Any, tmp_path: Path
) -> None:
    """The positions are of the new topic, and say nothing of the old one."""
    await make_anew(stack.servers, folded_topic)

    async def is_told() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM redrive.lost_ranges") == 3)

    async with run_worker(stack, database_url, folded_topic, folded_topic, tmp_path):
        await until(is_told, "the loss")
    moment = SnapshotOrder("then", 4_000_000_000_000)
    with pytest.raises(InvalidTransition, match=f"no longer holds {folded_topic}:0:0-29"):
        await snapshot.make(ports, moment, TESTER, lambda *_: None)
    assert (await generation_check.open_losses(connection))[0].startswith("the log lost 90 records")
    entry = await snapshot.make(ports, replace(moment, is_loss_accepted=True), TESTER, lambda *_: None)
    assert entry["state"] == "ready"
