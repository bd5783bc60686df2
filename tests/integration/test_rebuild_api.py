"""`/api/rebuilds` on the real console, whose follower folds what is begun there."""

from typing import Any

from tests.conftest import Stack
from tests.integration.test_console_api import Call, call, console
from tests.integration.test_worker import batch, folded, run_worker, until
from tests.support.rebuilds import live_and_previous
from tests.support.records import produce

__all__ = ["call", "console"]


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
    rows = await connection.fetch("SELECT operator, action, reason FROM redrive.audit ORDER BY id")
    assert [row["action"].partition(".")[2] for row in rows] == ["build", "apply", "rollback", "apply"]
    assert {row["reason"] for row in rows} == {"a row is gone"}
