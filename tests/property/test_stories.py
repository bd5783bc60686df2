"""Invariant 5: order and repetition do not matter. Whole stories, permuted, repeated and cut into batches.

`STORY_EXAMPLES` is the number of examples for each provider; `make fuzz` asks for many.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.fold import Changes, combine, fold_record
from processors.outcome import Folded
from processors.store import Span, Store
from schemas.facts import TABLES
from tests.property.fixture_views import VIEWS
from tests.property.logs import NOW, logs, stories
from tests.support.amounts import amount
from tests.support.fixtures import READABLE, of_fixture
from tests.support.folding import NoLetters
from tests.support.records import FakeRecord, story_record
from tests.support.story import STORIES, Webhook, World
from tests.support.tables import empty, story_differences

EXAMPLES = int(os.environ.get("STORY_EXAMPLES", amount(12, 40)))
VOLATILE = {"stripe": "pending_webhooks", "telnyx": "meta", "hubspot": "attemptNumber", "aircall": "token"}
"""What may differ between two deliveries of one content."""

every_story = pytest.mark.parametrize("provider", STORIES)
every_provider = pytest.mark.parametrize("provider", VIEWS)


def fixtures(provider: str) -> list[FakeRecord]:
    return [of_fixture(name) for name in READABLE if name.startswith(f"{provider}/")]


@st.composite
def batches(draw: st.DrawFn, log: list[Any]) -> list[list[Any]]:
    cuts = sorted(draw(st.sets(st.integers(1, len(log)), max_size=6)) | {0, len(log)})
    return [log[start:end] for start, end in pairwise(cuts)]


def fold(records: Sequence[FakeRecord]) -> list[Folded]:
    folded = [fold_record(one) for one in records]
    assert not any(one.letters for one in folded), folded
    return folded


async def commit(connection: "asyncpg.Connection[asyncpg.Record]", log: list[list[FakeRecord]]) -> None:
    """As the workers do: batch by batch, of each partition what the batch holds of it."""
    store = Store(1, NoLetters())
    positions: dict[tuple[str, int], int] = {}
    for batch in log:
        for place in sorted({(one.topic, one.partition) for one in batch}):
            part = [one for one in batch if (one.topic, one.partition) == place]
            end = part[-1].offset + 1
            await store.commit_batch(connection, Span(*place, positions.get(place, 0), end), fold(part))
            positions[place] = end


@every_story
@settings(max_examples=EXAMPLES)
@given(data=st.data())
async def test_the_views_are_the_story_in_any_order_repetition_and_batches(
    provider: str, data: st.DataObject, shared_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    world = data.draw(stories(provider))
    log = data.draw(logs([story_record(webhook, NOW) for webhook in world.webhooks]))
    await empty(shared_connection)
    await commit(shared_connection, data.draw(batches(log)))
    assert await story_differences(shared_connection, world) == []
    assert await indexed_events(shared_connection) == expected_events(world, log)


@every_provider
@settings(max_examples=EXAMPLES)
@given(data=st.data())
async def test_the_views_are_what_the_fixtures_say_in_any_order_repetition_and_batches(
    provider: str, data: st.DataObject, shared_connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    log = data.draw(logs(fixtures(provider)))
    await empty(shared_connection)
    await commit(shared_connection, data.draw(batches(log)))
    assert await story_differences(shared_connection, VIEWS[provider]) == []


async def indexed_events(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[tuple[str, str], tuple[Any, ...]]:
    """(source, event id) -> where it is first, when it came, how often again, with what other contents."""
    rows = await connection.fetch("SELECT * FROM webhook_events")
    assert {row["status"] for row in rows} <= {"applied", "ignored"}, "nothing is dead"
    columns = ("received_at", "topic", "partition", "record_offset", "repeats", "conflicts")
    return {(row["source"], row["event_id"]): tuple(row[name] for name in columns) for row in rows}


def expected_events(world: World, log: list[FakeRecord]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Every location counts, the earliest is shown; of one record's contents each but one is a conflict."""
    contents: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for webhook, events in zip(world.webhooks, world.announced, strict=True):
        contents.setdefault(tuple(sorted(events)), set()).add(content(webhook))
    found = {}
    for event in world.events:
        places = [
            (one.timestamp, one.topic, one.partition, one.offset)
            for one in log
            if event in world.announced[one.timestamp - NOW * 1000]
        ]
        arrived, *place = min(places)
        conflicts = sum(len(several) - 1 for events, several in contents.items() if event in events)
        found[event] = (datetime.fromtimestamp(arrived / 1000, UTC), *place, len(places) - 1, conflicts)
    return found


def content(webhook: Webhook) -> str:
    """What is told twice in the same words, whatever attempt it is."""
    volatile = VOLATILE.get(webhook.path.split("/")[2])
    if not webhook.body.startswith((b"{", b"[")):
        return webhook.body.decode()
    document = json.loads(webhook.body)
    for part in document if isinstance(document, list) else [document]:
        part.pop(volatile, None)
    return json.dumps(document, sort_keys=True)


def joined(changes: Sequence[Changes]) -> dict[str, list[Any]]:
    """The tables after these batches."""
    return {table.name: table.join_all(row for one in changes for row in one.tables.get(table, ())) for table in TABLES}


@every_story
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_the_facts_of_a_story_are_the_same_in_any_order_repetition_and_batches(
    provider: str, data: st.DataObject
) -> None:
    records = [story_record(webhook, NOW) for webhook in data.draw(stories(provider)).webhooks]
    log = data.draw(batches(data.draw(logs(records))))
    assert joined([combine(fold(batch)) for batch in log]) == joined([combine(fold(records))])


@every_provider
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_the_facts_of_all_fixtures_are_the_same_in_any_order_repetition_and_batches(
    provider: str, data: st.DataObject
) -> None:
    records = fixtures(provider)
    log = data.draw(batches(data.draw(logs(records))))
    assert joined([combine(fold(batch)) for batch in log]) == joined([combine(fold(records))])
