"""What operators change is on record before it is so (invariant 10), and they take turns."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.operator_log import appending
from deploy.reload import Control, control_topic
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.quarantine import QuarantineReader
from replay.operations.release import AuthorizedRelease, ReleaseSelection, release
from replay.operations.sources import ControlTopic, SourceChange, UnknownSource, change
from schemas.errors import AppendInDoubt, InvalidSelection, InvalidTransition, LogUnavailable, Unavailable
from schemas.providers.base import Secrets
from schemas.settings import Source
from schemas.source_state import SourceState
from schemas.topics import CONTROL, QUARANTINE
from tests.conftest import Stack
from tests.support import signing
from tests.support.auditing import NO_TEXTS, audited
from tests.support.ingresses import now_ms, run_ingress, source
from tests.support.records import FakeRecord, payment, produce

ADA = Author("ada", "a look at it")


@pytest.fixture
async def other(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A second connection to the test's database."""
    found = await asyncpg.connect(database_url)
    try:
        yield found
    finally:
        await found.close()


# The quarantine.


@pytest.fixture
async def held(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> Mapping[str, Source]:
    """Three genuine deliveries that a wrong secret put into the quarantine; returns the source with the right one."""
    wrong = replace(source(source_name, "stripe"), secrets=Secrets(("whsec_wrong_one",)))
    async with run_ingress(stack, {source_name: wrong}, tmp_path, now_ms) as running:
        for number in range(3):
            headers = signing.stripe(payment(number), int(time.time()))
            async with running.session.post(
                f"{running.url}/webhooks/{source_name}", data=payment(number), headers=headers
            ) as response:
                assert response.status == 401
    return {source_name: source(source_name, "stripe")}


async def test_a_release_is_on_record_before_its_first_append_and_with_its_outcome(
    stack: Stack, held: Mapping[str, Source], connection: Any, other: Any
) -> None:
    (name,) = held
    seen: list[Any] = []
    async with LogReader(stack.cluster) as reader, appending(stack.cluster) as append:

        async def watch(records: Sequence[Any]) -> Any:
            seen.append(await audited(other))
            return await append(records)

        quarantine = QuarantineReader(reader, connection, held, None)
        done = await release(quarantine, ReleaseSelection([name]), AuthorizedRelease(ADA, watch), lambda _: None)
    assert done.released == 3
    begun = ("quarantine.release", "a look at it", {"sources": [name], "outcome": "begun"})
    # Once for each batch: what was fetched together goes together.
    assert seen
    assert all(one == [begun] for one in seen)
    counts = {"released": 3, "duplicates": 0, "still_failing": 0, "untimely": 0, "released_before": 0}
    assert await audited(other) == [begun, (*begun[:2], {"sources": [name], "outcome": "done", **counts})]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Unavailable, "failed"), (LogUnavailable, "failed"), (AppendInDoubt, "in doubt: Kafka did not confirm it")],
)
async def test_a_release_that_fails_says_so_in_the_audit_with_what_it_had_done(
    stack: Stack, held: Mapping[str, Source], connection: Any, other: Any, error: type[Unavailable], outcome: str
) -> None:
    (name,) = held

    async def refuse(_: Sequence[Any]) -> Any:
        raise error("Kafka is away")

    async with LogReader(stack.cluster) as reader:
        quarantine = QuarantineReader(reader, connection, held, None)
        with pytest.raises(Unavailable, match="Kafka is away"):
            await release(quarantine, ReleaseSelection([name]), AuthorizedRelease(ADA, refuse), lambda _: None)
    outcomes = [(details["outcome"], details.get("released")) for _, _, details in await audited(other)]
    assert outcomes == [("begun", None), (outcome, 0)]


@pytest.mark.parametrize("text", NO_TEXTS)
@pytest.mark.parametrize("place", ["operator", "reason"])
async def test_a_release_that_can_not_be_on_record_does_not_happen(
    stack: Stack, held: Mapping[str, Source], connection: Any, place: str, text: str
) -> None:
    (name,) = held

    async def append(_: Sequence[Any]) -> Any:
        raise AssertionError("nothing may be appended")

    async with LogReader(stack.cluster) as reader:
        order = AuthorizedRelease(ADA._replace(**{place: text}), append)
        with pytest.raises(InvalidSelection):
            await release(
                QuarantineReader(reader, connection, held, None), ReleaseSelection([name]), order, lambda _: None
            )
    assert await audited(connection) == []


async def test_what_others_wrote_into_the_quarantine_is_passed_over(
    stack: Stack, held: Mapping[str, Source], connection: Any
) -> None:
    (name,) = held
    note = [("ce_type", b"redrive.quarantine.dropped")]
    delivery: Any = [("ce_type", b"stripe.quarantined"), ("ce_source", f"/webhooks/{name}".encode())]
    await produce(
        stack.servers,
        [
            FakeRecord(QUARANTINE, 0, 0, now_ms(), b"k", json.dumps(value).encode(), headers)
            for value, headers in (
                ({"source": name, "minute_ms": 9e25, "deliveries": 1}, note),
                ({"source": name, "minute_ms": -1, "deliveries": 1}, note),
                ({"source": name, "minute_ms": 0, "deliveries": 10**30}, note),
                ({}, [*delivery, ("http_stripe-signature", None)]),
            )
        ],
    )
    async with LogReader(stack.cluster) as reader:
        found = (await QuarantineReader(reader, connection, held, None).holdings(lambda _: None))[name]
    document = found.as_document()
    assert (document["held"], document["verify_now"], document["dropped"]) == (3, 3, {})


# The state of a source.


async def said_of(stack: Stack, name: str) -> str | None:
    said = (await control_topic(stack.cluster).states()).get(name)
    return said.state if said else None


async def test_a_word_is_on_record_before_the_topic_hears_it(
    stack: Stack, source_name: str, connection: Any, other: Any
) -> None:
    real, seen = control_topic(stack.cluster), list[Any]()

    async def say(state: SourceState) -> None:
        seen.append(await audited(other))
        await real.say(state)

    configured = {source_name: source(source_name, "stripe")}
    wanted = SourceChange(source_name, "pause", ADA)
    assert (await change(connection, ControlTopic(real.states, say), configured, wanted))["state"] == "paused"
    row = ("source.pause", "a look at it", {"source": source_name, "was": "active"})
    assert (seen, await audited(other)) == ([[row]], [row])

    async def refuse(_: SourceState) -> None:
        raise Unavailable("Kafka is away")

    with pytest.raises(Unavailable):
        await change(
            connection, ControlTopic(real.states, refuse), configured, SourceChange(source_name, "resume", ADA)
        )
    assert [details.get("outcome", "")[:8] for _, _, details in await audited(other)] == ["", "", "in doubt"]

    async def refuse_for_certain(_: SourceState) -> None:
        raise LogUnavailable("Kafka refused the record")

    resuming = SourceChange(source_name, "resume", ADA)
    with pytest.raises(LogUnavailable):
        await change(connection, ControlTopic(real.states, refuse_for_certain), configured, resuming)
    assert (await audited(other))[-1][2]["outcome"] == "refused: Kafka did not take it"
    for place, text in (("operator", "a\0b"), ("reason", "\udcff")):
        unrecorded = SourceChange(source_name, "resume", ADA._replace(**{place: text}))
        with pytest.raises(InvalidSelection):
            await change(connection, real, configured, unrecorded)
    assert await said_of(stack, source_name) == "paused"


async def test_two_operators_take_turns(stack: Stack, source_name: str, connection: Any, other: Any) -> None:
    real, inside, most = control_topic(stack.cluster), 0, 0

    async def states() -> Mapping[str, SourceState]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        return await real.states()

    async def say(state: SourceState) -> None:
        nonlocal inside
        await real.say(state)
        inside -= 1

    configured, control = {source_name: source(source_name, "stripe")}, ControlTopic(states, say)
    outcomes = await asyncio.gather(
        change(connection, control, configured, SourceChange(source_name, "disable", ADA)),
        change(other, control, configured, SourceChange(source_name, "pause", ADA)),
        return_exceptions=True,
    )
    assert most == 1
    # Whoever came first: to pause what is disabled is refused, and to disable what is paused is not.
    assert isinstance(outcomes[0], dict)
    assert isinstance(outcomes[1], dict | InvalidTransition)
    assert await said_of(stack, source_name) == "disabled"


async def test_a_source_that_is_not_configured_any_more_can_be_resumed_and_nothing_else(
    stack: Stack, source_name: str, connection: Any
) -> None:
    control = control_topic(stack.cluster)
    with pytest.raises(UnknownSource):
        await change(connection, control, {}, SourceChange(source_name, "resume", ADA))
    await change(
        connection, control, {source_name: source(source_name, "stripe")}, SourceChange(source_name, "pause", ADA)
    )
    with pytest.raises(UnknownSource):
        await change(connection, control, {}, SourceChange(source_name, "disable", ADA))
    assert (await change(connection, control, {}, SourceChange(source_name, "resume", ADA)))["was"] == "paused"
    assert await said_of(stack, source_name) == "active"


async def test_a_tombstone_means_the_same_to_who_follows_and_to_who_comes_later(stack: Stack, source_name: str) -> None:
    following = Control(stack.cluster)
    await following.start()
    try:
        await control_topic(stack.cluster).say(SourceState(source_name, "paused", "ada", "", "now"))
        assert (await following.catch_up())[source_name].state == "paused"
        await produce(stack.servers, [FakeRecord(CONTROL, 0, 0, now_ms(), source_name.encode(), None)])
        assert source_name not in await following.catch_up()
        assert await said_of(stack, source_name) is None
    finally:
        await following.stop()
