"""A loss of the log ends once its events are seen on the log again, or an operator does without them: never in silence."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from replay.audit import Author
from replay.prove.certificate import Certificate, Loss
from replay.prove.losses import ACCEPT
from replay.tables import generations
from replay.tables.generations import RebuildPorts
from schemas.errors import InvalidTransition
from tests.conftest import Stack
from tests.support.auditing import audited
from tests.support.folding import fold_live
from tests.support.proving import RECORDS, Prove, check
from tests.support.rebuilds import apply, rebuild, rebuilding
from tests.support.records import PARTITIONS, batch, payment, produce, record
from tests.support.topics import delete_records, make_anew
from tests.support.waiting import until
from tests.support.workers import run_worker

ADA = Author("ada", "the disk of broker 2")
LEFT = 12
"""Records on the topic that was made anew, when the loss is noticed."""

_LOST = "SELECT topic, partition, first_offset, end_offset FROM redrive.lost_ranges WHERE generation = 1 ORDER BY 2, 3"
_ENDED = "SELECT ended_as FROM redrive.ended_losses"


def states(made: Certificate) -> set[str]:
    return {loss.state for loss in made.losses or ()}


async def all_lost(connection: Any) -> bool:
    return len(await connection.fetch(_LOST)) >= PARTITIONS


@pytest.fixture
async def torn(stack: Stack, folded: str, database_url: str, connection: Any, tmp_path: Path) -> str:
    """A folded topic of sixty payments that was made anew, of which twelve came back; a live worker has noticed."""
    await make_anew(stack.servers, folded)
    await produce(stack.servers, batch(folded, range(LEFT)))
    async with run_worker(stack, database_url, folded, folded, tmp_path):
        await until(lambda: all_lost(connection), "the worker notices")

        async def is_folded() -> bool:
            sql = "SELECT count(*) FROM redrive.positions WHERE generation = 1 AND next_offset = $1"
            return bool(await connection.fetchval(sql, LEFT // PARTITIONS) == PARTITIONS)

        await until(is_folded, "what is there is folded")
    return folded


@pytest.fixture
async def ports(stack: Stack, database_url: str) -> AsyncIterator[RebuildPorts]:
    async with rebuilding(stack, database_url) as found:
        yield found


def lost_metric(topic: str) -> float | None:
    return REGISTRY.get_sample_value("redrive_lost_records", {"topic": topic, "partition": "0"})


async def test_a_loss_whose_records_all_came_back_is_recovered(
    stack: Stack, torn: str, prove: Prove, connection: Any, database_url: str, ports: RebuildPorts, tmp_path: Path
) -> None:
    made = await prove()
    assert (made.verdict, states(made)) == ("incomplete", {"open"})
    assert all("of the events that were there are not on the log" in reason for reason in made.reasons)
    lossy = await rebuild(ports)
    with pytest.raises(InvalidTransition, match="no longer holds"):
        await apply(ports, lossy.number)

    # Delivered again, in another order, and with what never was there.
    await produce(stack.servers, batch(torn, range(RECORDS + 3))[::-1])
    await fold_live(stack, connection, torn)
    made = await prove()
    assert (made.verdict, made.reasons, states(made)) == ("equal", [], {"recovered"})
    assert made.conclusion.startswith("equal")
    assert made.contradictions() == []
    assert {row[0] for row in await connection.fetch(_ENDED)} == {"recovered"}
    assert ACCEPT not in [action for action, _, _ in await audited(connection)]
    assert (await check(stack, database_url, made)).verdict == "equal"

    async with run_worker(stack, database_url, torn, torn, tmp_path):
        await until(lambda: lost_metric(torn) == 0, "the worker counts it no more")
    assert await generations.lost_ranges(connection, 1) == []
    whole = await rebuild(ports)
    await apply(ports, whole.number)
    assert (await prove()).verdict == "equal"


async def test_one_event_that_did_not_come_back_keeps_the_loss_open(
    stack: Stack, torn: str, prove: Prove, connection: Any, ports: RebuildPorts
) -> None:
    await produce(stack.servers, batch(torn, range(RECORDS - 1)))
    await fold_live(stack, connection, torn)
    made = await prove()
    gone = (RECORDS - 1) % PARTITIONS
    losses = [loss for loss in made.losses or () if loss.state == "open"]
    assert (made.verdict, [loss.partition for loss in losses]) == ("incomplete", [gone])
    assert made.reasons == [
        f"{torn}/{gone}: offsets {losses[0].first_offset} to {losses[0].end_offset - 1} were lost; 1 of the events that"
        " were there are not on the log"
    ]
    assert [(one.kind, [*one.key.values()][-1]) for one in made.differences] == [("unexpected", f"pi_{RECORDS - 1}")]

    accepted = await prove(accepting=ADA)
    (loss,) = [loss for loss in accepted.losses or () if loss.state != "recovered"]
    assert (loss.state, loss.operator, loss.reason) == ("accepted", *ADA)
    assert (accepted.verdict, accepted.reasons) == ("different", []), "the tables hold what the log does not say"
    assert "the log lost" in accepted.conclusion

    generation = await rebuild(ports)
    with pytest.raises(InvalidTransition, match="no longer holds"):
        await apply(ports, generation.number)
    await apply(ports, generation.number, is_loss_accepted=True)
    made = await prove()
    assert (made.verdict, states(made)) == ("equal", {"recovered", "accepted"})


async def test_what_was_never_folded_ends_by_being_accepted_and_the_certificate_says_so(
    stack: Stack, topic: str, prove: Prove, database_url: str, connection: Any, tmp_path: Path
) -> None:
    await produce(stack.servers, batch(topic, range(RECORDS)))
    await delete_records(stack.servers, topic, 1, 10)
    async with run_worker(stack, database_url, topic, topic, tmp_path):

        async def is_folded() -> bool:
            return bool(await connection.fetchval("SELECT sum(next_offset) FROM redrive.positions") == RECORDS)

        await until(is_folded, "the rest is folded")
    made = await prove()
    assert made.verdict == "incomplete"
    assert made.reasons == [f"{topic}/1: offsets 0 to 9 were lost; nobody knows all that was there"]
    assert await audited(connection) == []

    made = await prove(accepting=ADA)
    lost = Loss(
        topic=topic, partition=1, first_offset=0, end_offset=10, state="accepted", operator="ada", reason=ADA.reason
    )
    assert (made.verdict, made.losses, made.contradictions()) == ("equal", [lost], [])
    assert made.conclusion.endswith("the log lost 10 offsets, which was accepted")
    assert await audited(connection) == [(ACCEPT, ADA.reason, {"lost": f"{topic}:1:0-9"})]
    again = await prove()
    assert (again.verdict, again.losses) == ("equal", [lost])
    assert len(await audited(connection)) == 1, "it is accepted once"
    assert (await check(stack, database_url, made)).verdict == "equal"

    # More is deleted: that was not accepted.
    await delete_records(stack.servers, topic, 1, 12)
    made = await prove()
    assert made.verdict == "incomplete"
    (reason,) = made.reasons
    assert reason.startswith(f"{topic}/1: the log starts at offset 12; what was before is gone")


async def test_events_of_another_topic_at_the_same_offsets_recover_nothing_that_was_never_folded(
    stack: Stack, topic: str, prove: Prove, database_url: str, connection: Any, tmp_path: Path
) -> None:
    await produce(stack.servers, batch(topic, range(RECORDS)))
    await delete_records(stack.servers, topic, 1, 10)

    async def fold(count: int) -> None:
        async def is_folded() -> bool:
            return bool(await connection.fetchval("SELECT sum(next_offset) FROM redrive.positions") == count)

        async with run_worker(stack, database_url, topic, topic, tmp_path):
            await until(is_folded, "all that is there is folded")

    await fold(RECORDS)
    await make_anew(stack.servers, topic)
    # Others, and all that had been folded.
    folded_once = [n for n in range(RECORDS) if n % PARTITIONS != 1 or n // PARTITIONS >= 10]
    again = [record(topic, "stripe", payment(n), partition=n % PARTITIONS) for n in folded_once]
    await produce(stack.servers, [*batch(topic, range(300, 390)), *again])
    await fold(90 + len(again))
    made = await prove()
    (loss,) = [loss for loss in made.losses or () if loss.state == "open"]
    assert (made.verdict, loss.partition, loss.first_offset) == ("incomplete", 1, 0)
    assert made.reasons[0].endswith("nobody knows all that was there")


async def test_an_end_is_forgotten_where_the_live_workers_lose_something_again(connection: Any) -> None:
    note = """
        INSERT INTO redrive.lost_ranges (generation, topic, partition, first_offset, end_offset)
        VALUES ($1, 't', 0, $2, $3)
        ON CONFLICT (generation, topic, partition, first_offset) DO UPDATE SET end_offset = EXCLUDED.end_offset
    """
    end = "INSERT INTO redrive.ended_losses VALUES ('t', 0, $1, $2, 'accepted', 'ada', 'why')"
    left = "SELECT first_offset FROM redrive.ended_losses ORDER BY 1"
    await connection.execute(note, 1, 5, 9)
    await connection.execute(end, 5, 9)
    await connection.execute(end, 20, 30)
    # Another generation lacks the same.
    await connection.execute(note, 2, 5, 9)
    assert [row[0] for row in await connection.fetch(left)] == [5, 20]
    await connection.execute(note, 1, 5, 9)
    assert [row[0] for row in await connection.fetch(left)] == [20]
    await connection.execute(note, 1, 29, 31)
    assert await connection.fetch(left) == []


async def test_what_came_back_and_is_gone_again_is_open_again(
    stack: Stack, torn: str, prove: Prove, connection: Any
) -> None:
    await produce(stack.servers, batch(torn, range(RECORDS)))
    await fold_live(stack, connection, torn)
    assert states(await prove()) == {"recovered"}
    # Not the workers: whatever stands in the table, a proof looks for itself.
    await make_anew(stack.servers, torn)
    await produce(stack.servers, batch(torn, range(LEFT)))
    await connection.execute("UPDATE redrive.positions SET next_offset = $1", LEFT // PARTITIONS)
    made = await prove()
    assert (made.verdict, states(made)) == ("incomplete", {"open"})
    assert await connection.fetch(_ENDED) == []


async def test_a_certificate_of_before_stays_valid(folded: str, prove: Prove) -> None:
    """It has no losses, views nor lag, and its digest was made without them."""
    made = await prove()
    old = made.model_copy(update={"views": None, "losses": None, "behind": None}).sealed()
    document = {name: value for name, value in old.model_dump(mode="json").items() if value is not None}
    assert {"views", "losses", "behind"} & set(document) == set()
    read = Certificate.model_validate(json.loads(json.dumps(document)))
    assert (read.contradictions(), read.conclusion) == ([], "equal")
