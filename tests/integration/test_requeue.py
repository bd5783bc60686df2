"""Dead letters after a fix: what can be applied now is, what fails again keeps its history, nothing else changes."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from click.testing import CliRunner

from deploy import cli
from processors import projections
from processors.fold import fold_record
from processors.store import Span, Store
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.dead_letters import (
    DeadLetterFilter,
    UnknownDeadLetter,
    list_dead_letters,
    parse_location,
    show_dead_letter,
)
from replay.operations.events import Reveal
from replay.operations.requeue import Requeue, Requeued
from replay.tables.folding import LiveFolding, NoDeadLetters
from schemas.errors import InvalidSelection
from schemas.topics import source_of
from tests.conftest import Stack
from tests.support.auditing import audited
from tests.support.records import FakeRecord, payment, produce, record
from tests.support.tables import physical_rows
from tests.support.topics import make_anew

ARRIVAL = 1_760_000_000_000
ADA = Author("ada", "the projection is mended")


@dataclass
class Log:
    """A topic, and the fold of it into the test's database as it is today: with or without the bug."""

    stack: Stack
    topic: str
    connection: Any

    async def fold(self) -> None:
        store = Store(1, NoDeadLetters())
        async with LogReader(self.stack.cluster) as reader:
            async for part, records in reader.read(await reader.tails(self.topic, 10**6)):
                span = Span(part.topic, part.partition, part.start, part.end)
                await store.commit_batch(self.connection, span, [fold_record(raw) for raw in records])

    async def requeue(self, author: Author | None = ADA, **wanted: Any) -> Requeued:
        wanted = wanted or {"sources": (source_of(self.topic),)}
        async with LogReader(self.stack.cluster) as reader:
            folding = await LiveFolding.open(self.connection)
            return await Requeue(self.connection, reader, folding, author).run(
                DeadLetterFilter(**wanted), lambda _: None
            )

    async def open(self, is_all: bool = False, **wanted: Any) -> list[dict[str, Any]]:
        return (await list_dead_letters(self.connection, DeadLetterFilter(**wanted), is_all, 100))[0]

    async def delete_before(self, partition: int, offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.servers)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(self.topic, partition): RecordsToDelete(before_offset=offset)})
        finally:
            await admin.close()


def records_of(topic: str) -> list[FakeRecord]:
    """Twelve payments in one partition; the fifth is none, and never will be."""
    found = [record(topic, "stripe", payment(number)) for number in range(12)]
    found[5] = record(topic, "stripe", b"junk")
    for number, one in enumerate(found):
        one.timestamp = ARRIVAL + number
    return found


@pytest.fixture
async def log(stack: Stack, topic: str, connection: Any, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Folded by a projection that falls over every third payment; mended since."""
    found = Log(stack, topic, connection)
    await produce(stack.servers, records_of(topic))
    break_projection(monkeypatch, "not today")
    await found.fold()
    monkeypatch.undo()
    return found


def break_projection(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    mended = projections.PROJECTIONS["stripe"]

    def broken(one: Any, payload: Any) -> Any:
        if int(payload["id"].removeprefix("evt_")) % 3 == 0:
            raise LookupError(message)
        return mended(one, payload)

    monkeypatch.setitem(projections.PROJECTIONS, "stripe", broken)


async def test_a_dry_run_says_what_would_become_of_them_and_changes_nothing(log: Log, connection: Any) -> None:
    before = await physical_rows(connection)
    assert await log.requeue(None) == Requeued(revived=4, dead=1)
    assert await physical_rows(connection) == before
    assert await connection.fetchval("SELECT count(*) FROM redrive.requeues") == 0
    assert await audited(connection) == []


async def test_another_record_at_the_place_of_a_dead_one_revives_nothing(log: Log, connection: Any) -> None:
    """The topic was deleted and created again: its offsets name others."""
    await make_anew(log.stack.servers, log.topic)
    await produce(log.stack.servers, [record(log.topic, "stripe", payment(100 + n)) for n in range(12)])
    assert await log.requeue() == Requeued(gone=5)
    assert {one["status"] for one in await log.open()} == {"gone"}
    assert await connection.fetchval("SELECT count(*) FROM payments") == 7


async def test_what_can_be_applied_now_is_and_the_rest_keeps_its_history(log: Log, connection: Any) -> None:
    positions = await connection.fetch("SELECT * FROM redrive.positions ORDER BY partition")
    assert await connection.fetchval("SELECT count(*) FROM payments") == 7
    assert len(await log.open()) == 5
    assert await log.requeue() == Requeued(revived=4, dead=1)
    assert await connection.fetchval("SELECT count(*) FROM payments") == 11
    assert await connection.fetch("SELECT * FROM redrive.positions ORDER BY partition") == positions
    (left,) = await log.open()
    assert (left["location"], left["status"], left["reason"]) == (f"{log.topic}/0/5", "dead", "unparsable")
    assert (left["attempts"], left["operator"]) == (1, "ada")
    every = {one["record_offset"]: one for one in await log.open(is_all=True)}
    assert sorted(every) == [0, 3, 5, 6, 9]
    assert (every[3]["status"], every[3]["reason"]) == ("revived", "projection_failed")
    before = await physical_rows(connection)
    assert await log.requeue() == Requeued(dead=1)
    assert await physical_rows(connection) == before
    (left,) = await log.open()
    assert left["attempts"] == 2
    outcomes = [
        (action, reason, details["outcome"], details.get("revived"), details.get("dead"))
        for action, reason, details in await audited(connection)
    ]
    begun = ("dead_letters.requeue", ADA.reason, "begun", None, None)
    assert outcomes == [begun, (*begun[:2], "done", 4, 1), begun, (*begun[:2], "done", 0, 1)]


async def test_what_fails_again_for_another_reason_is_found_by_it_and_keeps_the_first(
    log: Log, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: Any, payload: Any) -> Any:
        raise ValueError

    monkeypatch.setitem(projections.PROJECTIONS, "stripe", refuse)
    assert (await log.requeue()).dead == 5
    monkeypatch.undo()
    found = await log.open(reason="invalid_payload")
    assert {one["first_reason"] for one in found} == {"projection_failed"}
    assert [one["attempts"] for one in found] == [1] * 4
    assert await log.open(reason="projection_failed") == []
    assert (await log.requeue(reason="invalid_payload")).revived == 4


async def test_dead_letters_are_chosen_by_source_reason_time_and_place(log: Log, connection: Any) -> None:
    assert [one["record_offset"] for one in await log.open()] == [9, 6, 5, 3, 0]
    assert await log.open(sources=("nobody",)) == []
    assert [one["record_offset"] for one in await log.open(reason="unparsable")] == [5]
    assert [one["record_offset"] for one in await log.open(from_ms=ARRIVAL + 3, to_ms=ARRIVAL + 6)] == [5, 3]
    pages, cursor = [], None
    for _ in range(3):
        page, cursor = await list_dead_letters(connection, DeadLetterFilter(), False, 2, cursor)
        pages.append([one["record_offset"] for one in page])
    assert (pages, cursor) == ([[9, 6], [5, 3], [0]], None)
    for text in ("x", "1", "1/t", "1/t/0/x", "9" * 30 + "/t/0/1"):
        with pytest.raises(InvalidSelection):
            await list_dead_letters(connection, DeadLetterFilter(), False, 2, text)
    places = (parse_location(f"{log.topic}/0/3"), parse_location(f"{log.topic}/0/4"))
    assert await log.requeue(locations=places) == Requeued(revived=1)
    assert [one["record_offset"] for one in await log.open()] == [9, 6, 5, 0]
    assert await log.requeue(from_ms=ARRIVAL + 6, to_ms=ARRIVAL + 9) == Requeued(revived=1)


async def test_a_record_that_is_gone_from_the_log_is_said_to_be(log: Log, connection: Any) -> None:
    await log.delete_before(0, 4)
    assert await log.requeue(None) == Requeued(revived=2, dead=1, gone=2)
    assert await log.requeue() == Requeued(revived=2, dead=1, gone=2)
    assert [(one["record_offset"], one["status"]) for one in await log.open()] == [
        (5, "dead"),
        (3, "gone"),
        (0, "gone"),
    ]
    await connection.execute("UPDATE redrive.event_index SET topic = 'webhooks.gone' WHERE status = 'dead'")
    assert await log.requeue() == Requeued(gone=3)


async def test_what_is_at_or_above_the_live_position_is_left_to_the_live_workers(log: Log, connection: Any) -> None:
    await connection.execute("UPDATE redrive.positions SET next_offset = 6 WHERE partition = 0")
    assert await log.requeue() == Requeued(revived=2, dead=1, left_to_live=2)


async def test_a_batch_that_was_dead_is_replaced_by_its_events(
    stack: Stack, topic: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: Any, payload: Any) -> Any:
        raise ValueError

    body = (Path(__file__).parents[1] / "fixtures" / "whatsapp" / "batch.multi_entry.json").read_bytes()
    await produce(stack.servers, [record(topic, "whatsapp", body)])
    log = Log(stack, topic, connection)
    monkeypatch.setitem(projections.PROJECTIONS, "whatsapp", refuse)
    await log.fold()
    monkeypatch.undo()
    assert [one["event_id"][:6] for one in await log.open()] == ["batch:"]
    assert await log.requeue() == Requeued(revived=1)
    assert await log.open() == []
    assert await connection.fetchval("SELECT count(*) FROM redrive.event_index WHERE event_id LIKE 'batch:%'") == 0
    assert len(await log.open(is_all=True)) == 1


async def test_one_is_shown_redacted_or_on_record(log: Log, stack: Stack, connection: Any) -> None:
    at = parse_location(f"{log.topic}/0/3")
    shown = await show_dead_letter(connection, lambda: LogReader(stack.cluster), at, None)
    assert (shown["redacted"], shown["reason"], shown["attempts"]) == (True, "projection_failed", 0)
    assert "text" not in shown["body"]
    assert await audited(connection) == []
    shown = await show_dead_letter(connection, lambda: LogReader(stack.cluster), at, Reveal("ada", "a look"))
    assert '"evt_3"' in shown["body"]["text"]
    assert [action for action, _, _ in await audited(connection)] == ["events.reveal"]
    await log.delete_before(0, 4)
    shown = await show_dead_letter(connection, lambda: LogReader(stack.cluster), at, None)
    assert (shown["headers"], shown["body"]) == (None, None)
    with pytest.raises(UnknownDeadLetter):
        await show_dead_letter(connection, lambda: LogReader(stack.cluster), parse_location(f"{log.topic}/0/4"), None)


async def test_people_and_programs_read_the_same_of_them(
    log: Log, stack: Stack, database_url: str, tmp_path: Path
) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
        "DATABASE_URL": database_url,
        "REDRIVE_OPERATOR": "grace hopper",
    }

    async def redrive(*arguments: str) -> tuple[int, str]:
        def invoke() -> Any:
            with contextlib.chdir(tmp_path):
                return CliRunner().invoke(cli.redrive, arguments, env=environment)

        done = await asyncio.to_thread(invoke)
        return done.exit_code, done.output

    place = f"{log.topic}/0/5"
    code, text = await redrive("dead-letters", "list", "--reason", "unparsable")
    assert (code, place in text, "unparsable: not JSON" in text) == (0, True, True)
    code, text = await redrive("dead-letters", "show", place)
    assert (code, "the log no longer" in text, "opaque" in text) == (0, False, True)
    code, text = await redrive("dead-letters", "requeue", place, "--reason", "why", "--json")
    assert (code, json.loads(text)["dead"]) == (1, 1), "one that is dead still is no success"
    code, text = await redrive("dead-letters", "list", "--json")
    assert [one["attempts"] for one in json.loads(text)["dead_letters"] if one["location"] == place] == [1]
    code, text = await redrive("audit", "list", "--action", "dead_letters.*")
    assert (code, text.count("grace hopper"), '"outcome":"done"' in text) == (0, 2, True)
    code, _ = await redrive("dead-letters", "requeue", "--all", "--source", "x")
    assert code != 0, "all of them, or some"


def test_a_location_is_topic_partition_and_offset() -> None:
    assert str(parse_location("webhooks.stripe/3/1042")) == "webhooks.stripe/3/1042"
    for text in ("", "t", "t/0", "t/-1/0", "t/0/x", "t/0/1/x", "t/0/1/2/3", "t/9999999999/0", "t/0/1\n", "t//1"):
        with pytest.raises(InvalidSelection):
            parse_location(text)
