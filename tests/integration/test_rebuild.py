"""A rebuild repairs what a replay can't, a flip misses nothing, and a rollback is a flip."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from processors import projections
from replay.rebuild import flip as flipping
from replay.rebuild import lifecycle, snapshot
from replay.rebuild.fold import GenerationFold
from replay.rebuild.follower import Follower
from replay.rebuild.snapshot import SnapshotOrder
from replay.tables import generations
from replay.tables.diff import difference
from replay.tables.folding import code
from replay.tables.generations import RebuildPorts
from schemas.errors import InvalidSelection, InvalidTransition
from tests.conftest import Stack
from tests.support.rebuilds import (
    TESTER,
    apply,
    fact_rows,
    failed,
    following,
    live_and_previous,
    positions_of,
    rebuild,
    rebuilding,
    rollback,
)
from tests.support.records import batch, produce
from tests.support.replays import RECORDS
from tests.support.waiting import until
from tests.support.workers import folded, run_worker


async def differences(connection: Any) -> dict[str, tuple[int, int, int]]:
    """Rows added, removed and changed by the second generation."""
    found = (await difference(connection, "gen_1", "gen_2")).views
    return {name: (one.added, one.removed, one.changed) for name, one in found.items() if one.rows}


def of_live(connection: Any, generation: int) -> Any:
    async def check() -> bool:
        live, _ = await live_and_previous(connection)
        return await positions_of(connection, generation) == await positions_of(connection, live)

    return check


async def test_a_rebuild_repairs_what_a_bug_wrote_and_a_rollback_brings_it_back(
    stack: Stack, spoiled_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    spoiled = await fact_rows(connection, "gen_1")
    generation = await rebuild(ports)
    assert (generation.number, await live_and_previous(connection)) == (2, (1, None))
    assert await positions_of(connection, 2) == await positions_of(connection, 1)
    (differing,) = (await differences(connection)).items()
    assert differing == ("payments", (0, 0, 30))
    assert await failed(connection) == 30
    await apply(ports, 2)
    assert await live_and_previous(connection) == (2, 1)
    assert await failed(connection) == 0
    assert await connection.fetchval("SELECT count(*) FROM payments WHERE amount = 100") == RECORDS + 30
    assert await fact_rows(connection, "gen_1") == spoiled
    await apply(ports, 1)
    assert await live_and_previous(connection) == (1, 2)
    assert await failed(connection) == 30
    actions = [row["action"] for row in await connection.fetch("SELECT action FROM redrive.audit ORDER BY id")]
    assert actions == ["rebuild.build", "rebuild.apply", "rebuild.apply"]


async def test_a_follower_keeps_the_generation_before_caught_up_and_leaves_the_live_positions_alone(
    stack: Stack, folded_topic: str, database_url: str, ports: RebuildPorts, connection: Any, tmp_path: Path
) -> None:
    await apply(ports, (await rebuild(ports)).number)
    async with run_worker(stack, database_url, folded_topic, folded_topic, tmp_path), following(ports):
        await produce(stack.servers, batch(folded_topic, range(RECORDS, RECORDS + 60)))

        async def live_went_on() -> bool:
            return sum((await positions_of(connection, 2)).values()) == RECORDS + 60

        await until(live_went_on, "the live generation")
        await until(of_live(connection, 1), "the one before")
    assert await fact_rows(connection, "gen_1") == await fact_rows(connection, "gen_2")


async def test_a_generation_that_is_being_built_is_gone_on_with_by_whoever_follows(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    """Its command was killed right after it had made the tables."""
    await lifecycle.begin(connection, ports, None, TESTER)
    async with following(ports):
        await until(of_live(connection, 2), "the fold")

        async def is_ready() -> bool:
            return (await generations.find(connection, 2)).state == "ready"

        await until(is_ready, "the state")
    assert await fact_rows(connection, "gen_2") == await fact_rows(connection, "gen_1")
    again = await rebuild(ports)
    assert again.number == 3


async def test_a_rollback_is_held_to_the_rule_of_every_flip(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    """The generation before was behind when the log lost its beginning: to go back to it would lose rows."""
    await rebuild(ports)
    await apply(ports, 2)
    await connection.execute("DELETE FROM gen_1.payments")
    await connection.execute("UPDATE redrive.positions SET next_offset = 0 WHERE generation = 1")
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    await admin.delete_records({TopicPartition(folded_topic, 0): RecordsToDelete(before_offset=7)})
    await admin.close()
    with pytest.raises(InvalidTransition, match=f"generation 1 lacks .*{folded_topic}:0:0-6"):
        await rollback(ports)
    assert await live_and_previous(connection) == (2, 1)
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS
    await rollback(ports, is_loss_accepted=True)
    assert await live_and_previous(connection) == (1, 2)
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS - 7


async def test_what_the_log_no_longer_holds_is_named_and_not_applied_by_default(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    await admin.delete_records({TopicPartition(folded_topic, 0): RecordsToDelete(before_offset=7)})
    await admin.close()
    await rebuild(ports)
    assert await generations.lost_ranges(connection, 2) == [(folded_topic, 0, 0, 7)]
    with pytest.raises(InvalidTransition, match=f"{folded_topic}:0:0-6"):
        await apply(ports, 2)
    assert await differences(connection) == {"payments": (0, 7, 0)}
    await apply(ports, 2, is_loss_accepted=True)
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS - 7

    now = SnapshotOrder("then", 4_000_000_000_000)
    with pytest.raises(InvalidTransition, match=f"no longer holds {folded_topic}:0:0-6"):
        await snapshot.make(ports, now, TESTER, lambda *_: None)
    assert await snapshot.describe_all(connection) == []
    await snapshot.make(ports, replace(now, is_loss_accepted=True), TESTER, lambda *_: None)
    assert await connection.fetchval("SELECT count(*) FROM scratch_then.payments") == RECORDS - 7
    accepted = "SELECT details->>'accept_loss' FROM redrive.audit WHERE action = 'rebuild.as_of'"
    assert [row[0] for row in await connection.fetch(accepted)] == ["true"]


async def test_what_the_live_workers_lost_is_folded_again_from_the_start_of_the_log(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    """A topic that was made anew may have passed the old positions by the time somebody looks."""
    await rebuild(ports)
    await connection.execute("DELETE FROM gen_2.payments")
    await connection.execute("UPDATE redrive.positions SET next_offset = 5 WHERE generation = 2 AND partition = 1")
    await connection.execute("INSERT INTO redrive.lost_ranges VALUES (1, $1, 1, 20, 30)", folded_topic)
    await Follower(ports).follow()
    assert await generations.lost_ranges(connection, 2) == [(folded_topic, 1, 20, 30)]
    assert await connection.fetchval("SELECT count(*) FROM gen_2.payments") == RECORDS // 3


async def test_a_replay_that_is_not_finished_holds_a_flip_off(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    await rebuild(ports)
    await connection.execute(
        "INSERT INTO redrive.replays (id, state, selection, generation, operator, reason, total)"
        " VALUES (gen_random_uuid(), 'running', '{}', 1, 'tester', 'because', 0)"
    )
    with pytest.raises(InvalidTransition, match="is running on generation 1"):
        await apply(ports, 2)
    assert await live_and_previous(connection) == (1, None)
    await connection.execute("UPDATE redrive.replays SET state = 'done'")
    await apply(ports, 2)
    assert await live_and_previous(connection) == (2, 1)


async def test_what_is_left_at_a_flip_is_folded_while_the_writers_wait(
    stack: Stack,
    folded_topic: str,
    database_url: str,
    ports: RebuildPorts,
    connection: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fold = GenerationFold(ports, await rebuild(ports))
    await produce(stack.servers, batch(folded_topic, range(RECORDS, RECORDS + 30)))
    async with run_worker(stack, database_url, folded_topic, folded_topic, tmp_path):

        async def went_on() -> bool:
            return sum((await positions_of(connection, 1)).values()) == RECORDS + 30

        await until(went_on, "the live generation")
        async with ports.open_log() as reader:
            with monkeypatch.context() as patch:
                patch.setattr(flipping, "MAX_REST_OFFSETS", 29)
                with pytest.raises(flipping._TooFar):
                    await flipping._flip_at_once(connection, ports, fold, reader, False)
            assert await live_and_previous(connection) == (1, None)
            await flipping._flip_at_once(connection, ports, fold, reader, False)
        assert await live_and_previous(connection) == (2, 1)
        assert await fact_rows(connection, "gen_2") == await fact_rows(connection, "gen_1")
        # The same worker goes on, in the generation that is live now.
        await produce(stack.servers, batch(folded_topic, range(RECORDS + 30, RECORDS + 60)))
        await until(folded(connection, 2 * RECORDS + 90), "the worker in its new generation")
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS + 60


async def test_a_generation_is_dropped_with_all_that_is_known_of_it_but_never_the_live_one(
    stack: Stack, folded_topic: str, ports: RebuildPorts, connection: Any
) -> None:
    await apply(ports, (await rebuild(ports)).number)
    with pytest.raises(InvalidTransition, match="is live"):
        await lifecycle.drop(connection, 2, TESTER)
    await connection.execute("CREATE VIEW public.mine AS SELECT source FROM gen_1.payments")
    with pytest.raises(InvalidTransition, match="mine would go with generation 1"):
        await lifecycle.drop(connection, 1, TESTER)
    await connection.execute("DROP VIEW public.mine")
    async with following(ports):
        await lifecycle.drop(connection, 1, TESTER)
    assert await live_and_previous(connection) == (2, None)
    assert await connection.fetchval("SELECT to_regnamespace('gen_1')") is None
    assert await positions_of(connection, 1) == {}
    with pytest.raises(InvalidSelection):
        await apply(ports, 1)
    # Whoever drops is killed before the tables are gone.
    await rebuild(ports)
    await connection.execute("UPDATE redrive.generations SET state = 'dropped' WHERE generation = 3")
    await lifecycle.sweep(connection)
    assert await connection.fetchval("SELECT to_regnamespace('gen_3')") is None


async def test_a_generation_knows_the_oldest_code_that_folded_it(
    stack: Stack,
    folded_topic: str,
    database_url: str,
    ports: RebuildPorts,
    connection: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = projections.stripe.VERSION
    assert await generations.older_projections(connection, 1, code()) == {}
    monkeypatch.setattr(projections.stripe, "VERSION", now + 1)
    assert await generations.older_projections(connection, 1, code()) == {"stripe": (now, now + 1)}
    async with rebuilding(stack, database_url) as newer:
        await apply(newer, (await rebuild(newer)).number)
        assert await generations.older_projections(connection, 2, code()) == {}
        await rebuild(newer, frozenset({"payments"}))
        await apply(newer, 3)
        assert await generations.older_projections(connection, 3, code()) == {}
    assert ports.code["stripe"][0] == now
    await connection.execute("UPDATE redrive.positions SET next_offset = 0 WHERE generation = 2")
    # The console's process still has the old code: it must not fold into what the new one made.
    await Follower(ports).follow()
    assert sum((await positions_of(connection, 2)).values()) == 0
