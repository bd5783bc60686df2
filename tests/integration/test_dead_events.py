"""Invariant 9 on the tables: one event of a batch is dead alone, is found, and is revived alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import schemas.migrations
from processors import projections
from processors.fold import fold_record
from processors.projections import whatsapp
from processors.store import Span, Store
from replay import metrics
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.dead_letters import DeadLetterFilter, list_dead_letters, parse_location, show_dead_letter
from replay.operations.requeue import Requeue, Requeued
from replay.tables.folding import LiveFolding
from schemas.errors import InvalidSelection
from schemas.topics import source_of
from tests.conftest import Stack
from tests.support.cases import KeptLetters, fold_webhooks, webhooks_of
from tests.support.damage import ITEMS, batch_record, message
from tests.support.folding import fold_live
from tests.support.proving import proved
from tests.support.records import produce
from tests.support.tables import empty

FOLDER = Path(schemas.migrations.__file__).parent
STATUSES = "SELECT event_id, status FROM webhook_events ORDER BY event_id"


ADA = Author("ada", "mended")


async def statuses(connection: Any) -> dict[str, str]:
    return {row["event_id"]: row["status"] for row in await connection.fetch(STATUSES)}


@pytest.mark.parametrize(("case", "second"), [("01", "a�b"), ("02", "cut �")])
async def test_odd_text_is_represented_and_the_other_messages_have_their_rows(
    case: str, second: str, shared_connection: Any
) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of(case)) == []
    rows = await shared_connection.fetch("SELECT message_id, body, is_opt_out FROM messages ORDER BY message_id")
    assert [row["message_id"] for row in rows] == ["wamid.CASE1", "wamid.CASE2", "wamid.CASE3"]
    assert rows[1]["body"] == second
    assert [row["is_opt_out"] for row in rows] == [False, False, case == "02"]
    assert set((await statuses(shared_connection)).values()) == {"applied"}


async def test_an_item_of_event_streams_that_cannot_be_read_is_dead_alone(shared_connection: Any) -> None:
    await empty(shared_connection)
    (letter,) = await fold_webhooks(shared_connection, webhooks_of("04"))
    assert (letter.ordinal, letter.message) == (2, "StreamMessage.messageStatus: Field required")
    assert await statuses(shared_connection) == {"EZcase4a": "applied", "EZcase4b": "dead"}
    assert await shared_connection.fetchval("SELECT status FROM messages") == "delivered"


async def test_aircalls_events_about_no_call_are_ignored(shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("21")) == []
    rows = await shared_connection.fetch("SELECT event_id, type, status, error FROM webhook_events ORDER BY type")
    assert [row["type"] for row in rows] == ["aircall.analytics.report_created", "aircall.sentiment.created"]
    assert {(row["event_id"][:7], row["status"], row["error"]) for row in rows} == {("sha256:", "ignored", None)}


async def test_aircalls_recording_comes_with_an_event_of_its_own(shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("22")) == []
    row = await shared_connection.fetchrow("SELECT status, recording_url, duration_seconds FROM calls")
    assert tuple(row) == ("completed", "https://s3.example.test/rec.mp3", 100)


async def test_what_postgres_refuses_of_a_batch_is_dead_alone(shared_connection: Any) -> None:
    """Too long for the key's index."""
    await empty(shared_connection)
    long = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(150))
    items = [message(1), {**message(2), "id": long}, {**message(3), "id": None}, message(4)]
    letters = KeptLetters()
    folded = [fold_record(batch_record("whatsapp", items)), fold_record(batch_record("whatsapp", [message(5)], 1))]
    await Store(1, letters).commit_batch(shared_connection, Span("webhooks.whatsapp", 0, 0, 2), folded)
    assert sorted((one.ordinal, one.reason) for one in letters.letters) == [
        (2, "refused_by_database"),
        (3, "invalid_payload"),
    ]
    found = await shared_connection.fetch("SELECT message_id FROM messages ORDER BY 1")
    assert [row[0] for row in found] == ["wamid.1", "wamid.4", "wamid.5"]
    assert sorted((await statuses(shared_connection)).values()) == ["applied"] * 3 + ["dead"] * 2


@dataclass
class Log:
    """A topic that is folded in this process."""

    stack: Stack
    topic: str
    connection: Any

    async def requeue(self, *locations: str, author: Author | None = ADA) -> Requeued:
        places = tuple(parse_location(f"{self.topic}/{text}") for text in locations)
        wanted = DeadLetterFilter(locations=places) if places else DeadLetterFilter(sources=(source_of(self.topic),))
        async with LogReader(self.stack.cluster) as reader:
            folding = await LiveFolding.open(self.connection)
            return await Requeue(self.connection, reader, folding, author).run(wanted, lambda _: None)

    async def open(self) -> dict[str, dict[str, Any]]:
        """By what follows the topic in its location."""
        found, _ = await list_dead_letters(self.connection, DeadLetterFilter(), False, 100)
        return {one["location"].removeprefix(f"{self.topic}/"): one for one in found}


def break_items(monkeypatch: pytest.MonkeyPatch, is_broken: Callable[[str], bool]) -> None:
    """A projection that can't read some messages."""
    mended = whatsapp._RULES["message"]

    def broken(source: str, our_number: str | None, item: Any, name: str, kind: str) -> Any:
        if is_broken(item.data["id"]):
            raise LookupError("not yet")
        return mended(source, our_number, item, name, kind)

    monkeypatch.setitem(whatsapp._RULES, "message", broken)


async def test_a_dead_event_is_listed_shown_and_revived_alone(
    stack: Stack, topic: str, connection: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(stack, topic, connection)
    await produce(stack.servers, [batch_record("whatsapp", [message(n) for n in range(6)], topic=topic)])
    break_items(monkeypatch, lambda name: name in ("wamid.1", "wamid.3", "wamid.4"))
    await fold_live(stack, connection, topic)
    assert await connection.fetchval("SELECT count(*) FROM messages") == 3
    found = await log.open()
    assert sorted(found) == ["0/0/2", "0/0/4", "0/0/5"]
    assert (found["0/0/4"]["type"], found["0/0/4"]["ordinal"]) == ("whatsapp.message.text", 4)
    dead = [name for name, status in (await statuses(connection)).items() if status == "dead"]
    assert dead == ["wamid.1", "wamid.3", "wamid.4"]
    shown = await show_dead_letter(connection, lambda: LogReader(stack.cluster), parse_location(f"{topic}/0/0/4"), None)
    assert (shown["type"], shown["reason"]) == (
        "whatsapp.message.text",
        "projection_failed",
    )
    with pytest.raises(InvalidSelection, match=r"several events .* name one of them, such as .*/0/0/5"):
        await show_dead_letter(connection, lambda: LogReader(stack.cluster), parse_location(f"{topic}/0/0"), None)
    assert (await proved(stack, database_url)).verdict == "equal", "what is dead live is dead in the proof"

    monkeypatch.undo()
    made = await proved(stack, database_url)
    revivable = [one.key["ordinal"] for one in made.differences if one.kind == "dead"]
    assert (made.verdict, revivable) == ("different", ["2", "4", "5"])
    assert await log.requeue("0/0/4", author=None) == Requeued(revived=1)
    assert await log.requeue("0/0/4") == Requeued(revived=1)
    assert sorted(await log.open()) == ["0/0/2", "0/0/5"]
    assert await connection.fetchval("SELECT count(*) FROM messages") == 4
    assert await log.requeue("0/0") == Requeued(revived=2)
    assert await log.open() == {}
    assert set((await statuses(connection)).values()) == {"applied"}
    assert (await proved(stack, database_url)).verdict == "equal"


async def test_what_fails_again_keeps_its_place_and_its_history(
    stack: Stack, topic: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(stack, topic, connection)
    await produce(stack.servers, [batch_record("whatsapp", [message(n) for n in range(3)], topic=topic)])
    break_items(monkeypatch, lambda name: name != "wamid.0")
    await fold_live(stack, connection, topic)
    monkeypatch.undo()
    break_items(monkeypatch, lambda name: name == "wamid.2")
    assert await log.requeue() == Requeued(revived=1, dead=1)
    assert {place: one["attempts"] for place, one in (await log.open()).items()} == {"0/0/3": 1}
    assert await log.requeue() == Requeued(dead=1)
    assert {place: one["attempts"] for place, one in (await log.open()).items()} == {"0/0/3": 2}


@pytest.mark.parametrize("provider", ITEMS)
async def test_a_batch_that_older_code_called_dead_is_revived_event_by_event(
    provider: str, stack: Stack, topic: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise LookupError

    log = Log(stack, topic, connection)
    items = [ITEMS[provider](1), None, ITEMS[provider](3)]
    await produce(stack.servers, [batch_record(provider, items, topic=topic)])
    monkeypatch.setitem(projections.PROJECTIONS, provider, refuse)
    await fold_live(stack, connection, topic)
    monkeypatch.undo()
    (whole,) = (await log.open()).values()
    assert (whole["location"], whole["ordinal"], whole["event_id"]) == (f"{topic}/0/0", 0, whole["event_id"])
    assert await log.requeue("0/0") == Requeued(revived=1, dead=1)
    found = await log.open()
    assert {place: one["attempts"] for place, one in found.items()} == {"0/0/2": 1}
    assert found["0/0/2"]["event_id"] == f"{whole['event_id']}#2"
    assert sorted((await statuses(connection)).values()) == ["applied", "applied", "dead"]
    assert await log.requeue() == Requeued(dead=1)


async def test_a_batch_of_more_dead_events_than_records_counts_both(connection: Any) -> None:
    async def nothing(*_: Any) -> None:
        return None

    items = [message(1), None, None, None]
    folded = [fold_record(batch_record("whatsapp", items)), fold_record(batch_record("whatsapp", [None], 1))]
    written = await LiveFolding(1).commit(connection, folded, nothing, nothing)
    assert (written.events, written.dead, written.dead_records) == (1, 4, 1)
    metrics.batch_redriven("a replay", len(folded), written, 1.0)


async def test_an_upgrade_keeps_the_letters_of_before_and_their_history(connection: Any) -> None:
    """Rows as version 0011 of the schema had them."""
    await connection.execute("""
        ALTER TABLE redrive.requeues DROP CONSTRAINT requeues_pkey, DROP COLUMN ordinal,
            ADD PRIMARY KEY (topic, partition, record_offset);
        ALTER TABLE redrive.event_index DROP COLUMN ordinal;
        INSERT INTO redrive.event_index VALUES
            ('x', 'batch:1', 'webhooks.x', 0, 7, 'batch:1', '', 'whatsapp', 'whatsapp.batch', NULL, now(), 'dead', 'a: b');
        INSERT INTO redrive.requeues VALUES ('webhooks.x', 0, 7, 'x', 'batch:1', 'whatsapp', 'whatsapp.batch', now(),
            'a: b', now(), 3, 'dead', 'c: d', now(), 'ada');
    """)
    upgrade = (FOLDER / "0012.dead-letters-of-single-events.sql").read_text()
    for _ in range(2):
        await connection.execute(upgrade)
    ((letter,), _) = await list_dead_letters(connection, DeadLetterFilter(), False, 10)
    assert (letter["location"], letter["attempts"], letter["error"]) == ("webhooks.x/0/7", 3, "c: d")
