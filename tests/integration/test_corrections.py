"""A correction is shown, put on record, appended once, and folded like any other event (invariant 10)."""

import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from deploy import operator_log
from deploy.operator_log import append_correction
from processors.fold import combine, fold_record
from processors.store import Store
from replay.log.reader import LogReader
from replay.operations.corrections import Corrected, CorrectionOrder, Desk, correct
from replay.operations.sources import UnknownSource
from schemas.cluster import Cluster
from schemas.corrections import Correction
from schemas.envelope import Location
from schemas.errors import AppendInDoubt, InvalidSelection, InvalidTransition, LogUnavailable, Unavailable
from schemas.topics import OPERATOR
from tests.conftest import Stack
from tests.support.auditing import NO_TEXTS, audited
from tests.support.corrections import account, credits, subscription
from tests.support.folding import NoLetters
from tests.support.records import payment, record
from tests.support.waiting import until

Change = dict[str, Any]


@pytest.fixture
async def other(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    found = await asyncpg.connect(database_url)
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
async def known(connection: Any, source_name: str) -> str:
    """A customer of the test's own source, who has paid once."""
    one = fold_record(record(f"webhooks.{source_name}", "stripe", payment(1)))
    assert not one.letters
    await Store(1, NoLetters())._write(connection, combine([one]))
    return "cus_1"


def desk(stack: Stack, source: str, append: Any = None) -> Desk:
    async def really(correction: Correction) -> Location:
        return await append_correction(stack.cluster, correction)

    return Desk((source,), lambda: LogReader(stack.cluster), append or really)


def order(source: str, change: Change, **more: Any) -> CorrectionOrder:
    return CorrectionOrder.model_validate_json(
        json.dumps({"source": source, "change": change, "reason": "because", **more})
    )


async def of_source(read_topic: Callable[[str], Any], source: str) -> list[ConsumerRecord]:
    """The corrections of one test: all share the topic."""
    return [one for one in await read_topic(OPERATOR) if json.loads(one.value)["source"] == source]


async def test_a_dry_run_shows_the_row_before_and_after_and_changes_nothing(
    stack: Stack, source_name: str, known: str, connection: Any, read_topic: Any
) -> None:
    cases: list[tuple[Change, str, Change, Change]] = [
        (credits(40, known), "credits", {}, {"balance": 40}),
        (account(True, known), "accounts", {"is_frozen": False}, {"is_frozen": True, "frozen_reason": "operator"}),
        (subscription("active", "sub_9", customer=known), "subscriptions", {}, {"status": "active"}),
    ]
    events = await connection.fetchval("SELECT count(*) FROM redrive.event_index")
    for change, table, before, after in cases:
        wanted = order(source_name, change, dry_run=True, new=table == "subscriptions")
        done = await correct(connection, desk(stack, source_name), wanted, "ada")
        assert (done.status, done.table, done.location) == ("planned", table, None)
        assert {name: (done.before or {}).get(name) for name in before} == before
        assert {name: (done.after or {}).get(name) for name in after} == after
    for view, count in (("credit_entries", 0), ("subscriptions", 0), ("accounts", 1)):
        assert await connection.fetchval(f"SELECT count(*) FROM {view}") == count
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index") == events
    assert await audited(connection) == []
    assert await of_source(read_topic, source_name) == []


async def test_a_correction_is_on_record_before_the_log_has_it_and_becomes_its_row(
    stack: Stack, source_name: str, known: str, connection: Any, other: Any, read_topic: Any
) -> None:
    seen: list[Any] = []

    async def watch(correction: Correction) -> Location:
        seen.append(await audited(other))
        return await append_correction(stack.cluster, correction)

    done = await correct(
        connection, desk(stack, source_name, watch), order(source_name, credits(-7, known), id="fix-1"), "ada"
    )
    details = {"source": source_name, "correction": "fix-1", "customer": known, "credits": -7}
    assert seen == [[("credits.adjust", "because", details)]]
    (one,) = await of_source(read_topic, source_name)
    assert done.location == f"{one.topic}/{one.partition}/{one.offset}"
    folded = fold_record(one)
    assert not folded.letters
    for _ in range(2):
        await Store(1, NoLetters())._write(connection, combine([folded]))
    row = await connection.fetchrow("SELECT * FROM credits WHERE source = $1", source_name)
    assert done.after is not None
    assert row["balance"] == done.after["balance"] == -7
    row = await connection.fetchrow("SELECT * FROM webhook_events WHERE event_id = $1", done.event_id)
    assert (row["source"], row["type"], row["status"]) == ("operator", "operator.credits.adjusted", "applied")


async def test_an_id_said_twice_is_one_correction_and_can_not_say_something_else(
    stack: Stack, source_name: str, known: str, connection: Any, read_topic: Any
) -> None:
    async def say(change: Change, operator: str = "ada") -> Corrected:
        # Other tests' corrections are on the topic, too.
        wanted = order(source_name, change, id=f"once-{source_name}")
        return await correct(connection, desk(stack, source_name), wanted, operator)

    first, second = await say(account(True, known)), await say(account(True, known))
    assert (first.status, second.status) == ("accepted", "duplicate")
    assert first.location == second.location
    with pytest.raises(InvalidTransition):
        await say(account(False, known))
    with pytest.raises(InvalidTransition):
        await say(account(True, known), operator="bob")
    assert len(await of_source(read_topic, source_name)) == 1
    assert len(await audited(connection)) == 1


async def test_what_can_not_be_is_refused_and_leaves_no_trace(
    stack: Stack, source_name: str, known: str, connection: Any, read_topic: Any
) -> None:
    refused: list[tuple[CorrectionOrder, str, type[Exception]]] = [
        (order("nobody", credits(1, known)), "ada", UnknownSource),
        (order(source_name, credits(1, "cus_typo")), "ada", InvalidSelection),
        (order(source_name, account(True, "cus_typo")), "ada", InvalidSelection),
        (order(source_name, subscription("active", "sub_typo")), "ada", InvalidSelection),
        (order(source_name, subscription("active", "sub_typo", customer=known)), "ada", InvalidSelection),
        (order(source_name, subscription("active", "sub_typo"), new=True), "ada", InvalidSelection),
        (order(source_name, credits(1, known), reason=" "), "ada", InvalidSelection),
        *((order(source_name, credits(1, known)), text, InvalidSelection) for text in NO_TEXTS),
    ]
    for wanted, operator, error in refused:
        with pytest.raises(error):
            await correct(connection, desk(stack, source_name), wanted, operator)
    assert await audited(connection) == []
    assert await of_source(read_topic, source_name) == []
    done = await correct(
        connection, desk(stack, source_name), order(source_name, credits(1, "cus_new"), new=True), "ada"
    )
    assert done.status == "accepted"


async def test_a_subscription_is_not_moved_to_another_customer(stack: Stack, source_name: str, connection: Any) -> None:
    async def say(**more: Any) -> Corrected:
        change = subscription("active", "sub_1", **more)
        return await correct(connection, desk(stack, source_name, folded), order(source_name, change, new=True), "ada")

    async def folded(correction: Correction) -> Location:
        from tests.support.corrections import correction_record

        one = fold_record(correction_record(correction))
        assert not one.letters
        await Store(1, NoLetters())._write(connection, combine([one]))
        return Location(OPERATOR, 0, 0)

    await say(customer="cus_1")
    with pytest.raises(InvalidSelection):
        await say(customer="cus_2")
    assert (await say()).status == "accepted"


async def test_what_kafka_does_not_confirm_is_in_doubt_and_can_be_said_again(
    stack: Stack, source_name: str, known: str, connection: Any, read_topic: Any
) -> None:
    async def lose_the_answer(correction: Correction) -> Location:
        await append_correction(stack.cluster, correction)
        raise Unavailable("Kafka is away")

    wanted = order(source_name, credits(5, known), id=f"doubt-{source_name}")
    with pytest.raises(Unavailable):
        await correct(connection, desk(stack, source_name, lose_the_answer), wanted, "ada")
    assert [details.get("outcome", "")[:8] for _, _, details in await audited(connection)] == ["", "in doubt"]
    assert (await correct(connection, desk(stack, source_name), wanted, "ada")).status == "duplicate"
    assert len(await of_source(read_topic, source_name)) == 1


@pytest.mark.parametrize("fault", ["record too large", "no topic", "no broker"])
async def test_what_kafka_never_got_is_refused_in_the_audit(
    stack: Stack, source_name: str, known: str, connection: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Nothing can be on the log, so nobody has to look."""
    cluster = Cluster("127.0.0.1:1") if fault == "no broker" else stack.cluster
    size = 1 if fault == "record too large" else 1_000_000
    monkeypatch.setattr(
        operator_log,
        "producer_factory",
        lambda cluster: (
            lambda: AIOKafkaProducer(**cluster.client_options(), request_timeout_ms=1000, max_request_size=size)
        ),
    )
    if fault == "no topic":
        monkeypatch.setattr(operator_log, "OPERATOR", "webhooks.missing")
    told = desk(stack, source_name, partial(append_correction, cluster))
    with pytest.raises(LogUnavailable) as refused:
        await correct(connection, told, order(source_name, credits(5, known)), "ada")
    assert refused.value.code == "log_unavailable"
    assert [details.get("outcome", "")[:7] for _, _, details in await audited(connection)] == ["", "refused"]


async def test_a_correction_that_kafka_did_not_confirm_names_the_id_with_which_a_repeat_counts_once(
    stack: Stack, source_name: str, known: str, connection: Any, read_topic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has the request, freezes, and writes the record once it goes on: nobody could know in time."""
    producing = operator_log.producing

    @asynccontextmanager
    async def freezing(*args: Any) -> AsyncIterator[Any]:
        async with producing(*args) as producer:

            async def may_send() -> bool:
                return bool(producer._txn_manager.has_pid())

            # Without these two it sends nothing.
            await until(may_send, "the producer has its id")
            await producer.partitions_for(OPERATOR)
            os.kill(stack.kafka.pid or 0, signal.SIGSTOP)
            yield producer

    with monkeypatch.context() as patch:
        patch.setattr(operator_log, "producing", freezing)
        try:
            with pytest.raises(AppendInDoubt, match="may be on the log") as doubt:
                await correct(connection, desk(stack, source_name), order(source_name, credits(40, known)), "ada")
        finally:
            os.kill(stack.kafka.pid or 0, signal.SIGCONT)
    named = re.search(r"its id, (\w+)", str(doubt.value))
    assert named is not None
    assert doubt.value.code == "append_in_doubt"

    async def is_written() -> bool:
        return len(await of_source(read_topic, source_name)) == 1

    await until(is_written, "the frozen broker writes what it had in hand")
    wanted = order(source_name, credits(40, known), id=named[1])

    async def is_told_apart() -> bool:
        # A broker that was frozen is fenced until its controller has heard of it.
        with contextlib.suppress(LogUnavailable):
            return (await correct(connection, desk(stack, source_name), wanted, "ada")).status == "duplicate"
        return False

    await until(is_told_apart, "the repeat is known as one")
    assert len(await of_source(read_topic, source_name)) == 1
