"""Proofs over HTTP: one at a time, on record before they begin, and none is running for ever."""

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY

from replay.audit import Author
from replay.ports import Advance
from replay.prove.certificate import Certificate
from replay.prove.proofs import Proofs, list_proofs, show_proof
from schemas.errors import InvalidTransition, Unavailable
from tests.conftest import Stack
from tests.support.auditing import audited
from tests.support.consoles import Call
from tests.support.folding import fold_live
from tests.support.records import batch, produce
from tests.support.waiting import until

ADA = Author("ada", "the audit of this year")


def verdict_metric() -> dict[str, float | None]:
    verdicts = ("equal", "different", "incomplete", "failed")
    return {v: REGISTRY.get_sample_value("redrive_proof_last_verdict", {"verdict": v}) for v in verdicts}


async def test_a_proof_is_asked_for_and_its_certificate_read(
    stack: Stack, call: Call, topic: str, connection: Any
) -> None:
    await produce(stack.servers, batch(topic, range(30)))
    await fold_live(stack, connection, topic)
    status, begun = await call("POST", "/api/proofs", {"reason": "the audit of this year"})
    assert status == 201
    assert (begun["state"], begun["certificate"]) == ("running", None)

    async def ended() -> bool:
        _, found = await call("GET", f"/api/proofs/{begun['id']}")
        return bool(found["state"] != "running")

    await until(ended, "the proof")
    status, found = await call("GET", f"/api/proofs/{begun['id']}")
    assert (status, found["state"], found["verdict"], found["error"], found["progress"]) == (
        200,
        "done",
        "equal",
        None,
        1,
    )
    certificate = Certificate.model_validate(found["certificate"])
    assert certificate.contradictions() == []
    assert certificate.counts.records == 30
    (one,) = (await call("GET", "/api/proofs"))[1]["proofs"]
    assert one == {name: value for name, value in found.items() if name != "certificate"}
    assert await audited(connection) == [("proof.start", "the audit of this year", {"proof": begun["id"]})]

    await connection.execute("UPDATE gen_1.payments SET amount = 1 WHERE payment_intent_id = 'pi_3'")
    _, begun = await call("POST", "/api/proofs")
    await until(ended, "the second proof")
    _, found = await call("GET", f"/api/proofs/{begun['id']}")
    (difference,) = found["certificate"]["differences"]
    assert (found["verdict"], difference["table"], difference["columns"]) == ("different", "payments", ["amount"])
    for path in (f"/api/proofs/{uuid.uuid4()}", "/api/proofs/x"):
        status, problem = await call("GET", path)
        assert (status, problem["code"]) == (404, "not_found")
    for body in ({"reason": 7}, {"accept_loss": "yes", "reason": "why"}, {"accept_loss": True}):
        status, problem = await call("POST", "/api/proofs", body)
        assert (status, problem["code"]) == (400, "invalid_selection")


async def test_a_loss_is_accepted_by_a_proof_that_is_asked_to(
    stack: Stack, call: Call, topic: str, connection: Any
) -> None:
    await produce(stack.servers, batch(topic, range(30)))
    await fold_live(stack, connection, topic)
    await connection.execute("INSERT INTO redrive.lost_ranges VALUES (1, $1, 0, 40, 44)", topic)
    for body, verdict, state in (
        ({}, "incomplete", "open"),
        ({"accept_loss": True, "reason": "the disk of broker 2"}, "equal", "accepted"),
        ({}, "equal", "accepted"),
    ):
        _, begun = await call("POST", "/api/proofs", body)

        async def ended(proof: str = begun["id"]) -> bool:
            _, found = await call("GET", f"/api/proofs/{proof}")
            return bool(found["state"] != "running")

        await until(ended, "the proof")
        _, found = await call("GET", f"/api/proofs/{begun['id']}")
        (loss,) = found["certificate"]["losses"]
        assert (found["verdict"], loss["state"]) == (verdict, state)
    accepted = [(reason, details) for action, reason, details in await audited(connection) if action == "loss.accept"]
    assert accepted == [("the disk of broker 2", {"lost": f"{topic}:0:40-43"})]


def proofs(url: str, prove: Any) -> Proofs:
    return Proofs(lambda: asyncpg.connect(url), prove)


async def test_one_runs_at_a_time_and_one_that_is_stopped_says_so(database_url: str, connection: Any) -> None:
    begun = asyncio.Event()

    async def for_ever(advance: Advance, _: Author | None) -> Certificate:
        advance(1, 4)
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    running, other = proofs(database_url, for_ever), proofs(database_url, for_ever)
    first = await running.start(ADA)
    await begun.wait()
    with pytest.raises(InvalidTransition, match=str(first)):
        await other.start(ADA)
    with pytest.raises(InvalidTransition, match=str(first)):
        await running.start(ADA)

    async def told() -> bool:
        found = await show_proof(connection, first)
        return found is not None and found["progress"] == 0.25

    await until(told, "how far it is")
    await running.stop()
    found = await show_proof(connection, first)
    assert found is not None
    assert (found["state"], found["error"], found["certificate"]) == (
        "failed",
        "interrupted: the console stopped",
        None,
    )
    assert await other.start(ADA) != first
    await other.stop()


async def test_a_proof_that_fails_says_why(database_url: str, connection: Any) -> None:
    async def fail(*_: Any) -> Certificate:
        raise Unavailable("Kafka is away")

    running = proofs(database_url, fail)
    proof = await running.start(ADA)

    async def failed() -> bool:
        found = await show_proof(connection, proof)
        return found is not None and found["state"] == "failed"

    await until(failed, "the failure")
    (found,) = await list_proofs(connection, 10)
    assert (found["error"], found["verdict"]) == ("Kafka is away", None)
    assert verdict_metric() == {"equal": 0, "different": 0, "incomplete": 0, "failed": 1}


async def test_a_proof_whose_process_was_killed_is_not_running_for_ever(database_url: str, connection: Any) -> None:
    killed = await asyncpg.connect(database_url)
    assert await killed.fetchval("SELECT pg_try_advisory_lock(hashtext('redrive.proof'))")
    await killed.execute("INSERT INTO redrive.proofs (id, state, operator) VALUES ($1, 'running', 'ada')", uuid.uuid4())
    assert [one["state"] for one in await list_proofs(connection, 10)] == ["running"]
    killed.terminate()

    async def closed() -> bool:
        (found,) = await list_proofs(connection, 10)
        return (found["state"], (found["error"] or "")[:11]) == ("failed", "interrupted")

    await until(closed, "the server drops the lock")
