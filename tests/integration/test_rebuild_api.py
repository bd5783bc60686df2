"""`/api/rebuilds` on the real console, whose follower folds what is begun there."""

from typing import Any

import pytest

from replay.rebuild import lifecycle, snapshot
from replay.rebuild.snapshot import SnapshotOrder
from replay.tables import generations
from schemas.errors import Misconfigured
from tests.conftest import Stack
from tests.support.consoles import Call
from tests.support.rebuilds import TESTER, live_and_previous, rebuild, rebuilding
from tests.support.records import batch, produce
from tests.support.waiting import until
from tests.support.workers import folded, run_worker


async def test_a_rebuild_is_ordered_folded_applied_and_taken_back(
    stack: Stack, call: Call, topic: str, database_url: str, connection: Any, tmp_path: Any
) -> None:
    await produce(stack.servers, batch(topic, range(30)))
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 30), "the fold")
    await connection.execute("DELETE FROM gen_1.payments WHERE payment_intent_id = 'pi_3'")
    order = {"reason": "a row is gone"}
    assert await call("POST", "/api/rebuilds", order) == (200, {"generation": 2, "state": "building", "previous": None})

    async def state() -> Any:
        _, found = await call("GET", "/api/rebuilds")
        return {
            one["generation"]: (one["state"], one["folded"], one["to_fold"], one["lost"])
            for one in found["generations"]
        }

    async def is_ready() -> bool:
        return bool((await state())[2][0] == "ready")

    await until(is_ready, "the console's follower")
    assert await state() == {1: ("live", 30, 30, 0), 2: ("ready", 30, 30, 0)}
    status, found = await call("POST", "/api/rebuilds", {**order, "apply": 2})
    assert (status, found) == (200, {"generation": 2, "state": "live", "previous": 1})
    assert await connection.fetchval("SELECT count(*) FROM payments") == 30
    assert (await call("POST", "/api/rebuilds", {**order, "rollback": True}))[0] == 200
    assert await live_and_previous(connection) == (1, 2)

    for body, status in (({"reason": ""}, 400), ({**order, "apply": 9}, 400), ({**order, "only": ["none"]}, 400)):
        answered, problem = await call("POST", "/api/rebuilds", body)
        assert (answered, problem["code"]) == (status, "invalid_selection")
    await connection.execute("INSERT INTO redrive.lost_ranges VALUES (2, $1, 0, 0, 5)", topic)
    answered, problem = await call("POST", "/api/rebuilds", {**order, "apply": 2})
    assert (answered, problem["code"]) == (409, "invalid_transition")
    assert f"{topic}:0:0-4" in problem["detail"]
    assert (await call("POST", "/api/rebuilds", {**order, "apply": 2, "accept_loss": True}))[0] == 200
    await connection.execute("INSERT INTO redrive.lost_ranges VALUES (1, $1, 0, 0, 5)", topic)
    answered, problem = await call("POST", "/api/rebuilds", {**order, "rollback": True})
    assert (answered, problem["code"]) == (409, "invalid_transition")
    assert f"{topic}:0:0-4" in problem["detail"]
    assert (await call("POST", "/api/rebuilds", {**order, "rollback": True, "accept_loss": True}))[0] == 200
    rows = await connection.fetch("SELECT operator, action, reason FROM redrive.audit ORDER BY id")
    assert [row["action"].partition(".")[2] for row in rows] == ["build", "apply", "rollback", "apply", "rollback"]
    assert {row["reason"] for row in rows} == {"a row is gone"}


async def test_a_state_of_the_past_is_made_listed_and_dropped_and_so_is_a_generation(
    stack: Stack, call: Call, topic: str, database_url: str, connection: Any, tmp_path: Any
) -> None:
    records = batch(topic, range(30))
    for number, one in enumerate(records):
        one.timestamp = 1_760_000_000_000 + 1000 * number
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, 30), "the fold")
    moment = {"reason": "what did we know?", "as_of": "2025-10-09T08:53:30Z"}
    status, entry = await call("POST", "/api/rebuilds", {**moment, "name": "then"})
    assert (status, entry["name"], entry["as_of"]) == (201, "then", "2025-10-09T08:53:30+00:00")

    async def is_ready() -> bool:
        _, found = await call("GET", "/api/rebuilds")
        return [(one["name"], one["state"]) for one in found["scratches"]] == [("then", "ready")]

    await until(is_ready, "the state")
    assert await connection.fetchval("SELECT count(*) FROM scratch_then.payments") == 10
    answered, problem = await call("POST", "/api/rebuilds", {**moment, "name": "then"})
    assert (answered, problem["code"]) == (409, "invalid_transition")
    assert await call("POST", "/api/rebuilds", {"drop": "then"}) == (200, {"dropped": "then"})
    assert await connection.fetchval("SELECT to_regnamespace('scratch_then')") is None

    assert (await call("POST", "/api/rebuilds", {}))[1]["generation"] == 2
    assert await call("POST", "/api/rebuilds", {"drop": 2}) == (200, {"dropped": "2"})
    assert await connection.fetchval("SELECT to_regnamespace('gen_2')") is None
    for which, status in ((1, 409), (9, 400), ("nobody", 400)):
        assert (await call("POST", "/api/rebuilds", {"drop": which}))[0] == status
    rows = await connection.fetch("SELECT action, details->>'name' AS name FROM redrive.audit ORDER BY id")
    told = [("as_of", "then"), ("drop", "then"), ("build", None), ("drop", None)]
    assert [(row["action"].partition(".")[2], row["name"]) for row in rows] == told


async def test_a_login_that_owns_nothing_is_told_so_and_leaves_everything(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    async with rebuilding(stack, database_url) as ports:
        await rebuild(ports)
        await snapshot.make(ports, SnapshotOrder("then", 0), TESTER, lambda *_: None)
        name = f"console_{topic.removeprefix('webhooks.')}"
        await connection.execute(
            f"CREATE ROLE {name}; GRANT USAGE ON SCHEMA redrive TO {name};"
            f" GRANT ALL ON ALL TABLES IN SCHEMA redrive TO {name};"
            f" GRANT ALL ON ALL SEQUENCES IN SCHEMA redrive TO {name}; SET ROLE {name}"
        )
        for order in (
            lifecycle.drop(connection, 2, TESTER),
            snapshot.drop(connection, "then", TESTER),
        ):
            with pytest.raises(Misconfigured, match="only the database owner"):
                await order
        await connection.execute("RESET ROLE")
        assert [one["state"] for one in await generations.describe_all(connection)] == ["live", "ready"]
        assert [one["state"] for one in await snapshot.describe_all(connection)] == ["ready"]
        await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
