"""A dry run says exactly what the run then changes: random stories, of which some was folded before and some is missing."""

import os
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, cast

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.jobs.dry_run import TableChange, dry_run
from replay.jobs.plan import Plan
from replay.log.reader import LogReader
from replay.log.topic_ids import Logs
from replay.selection.selection import Range
from replay.tables.diff import difference
from replay.tables.folding import SchemaFolding
from replay.tables.read_models import create_facts
from schemas.facts import TABLES
from schemas.topics import source_of
from tests.property.logs import NOW, logs, stories
from tests.support.amounts import amount
from tests.support.records import FakeRecord, story_record
from tests.support.replays import pinned_to
from tests.support.selections import selected
from tests.support.story import STORIES
from tests.support.tables import empty, physical_rows

EXAMPLES = int(os.environ.get("STORY_EXAMPLES", amount(16, 40))) // 8
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Log:
    """Records as the log reader gives them, in batches of at most a few."""

    def __init__(self, records: Sequence[FakeRecord], batch: int) -> None:
        self._records = records
        self._batch = batch

    async def read(self, ranges: Sequence[Range], logs: Logs) -> AsyncIterator[tuple[Range, list[Any]]]:
        for part in ranges:
            for start in range(part.start, part.end, self._batch):
                end = min(start + self._batch, part.end)
                covered = Range(part.topic, part.partition, start, end)
                yield covered, [one for one in self._records if holds(covered, one)]


def holds(part: Range, record: FakeRecord) -> bool:
    return (part.topic, part.partition) == (record.topic, record.partition) and part.start <= record.offset < part.end


@st.composite
def plans(draw: st.DrawFn, log: Sequence[FakeRecord]) -> Plan:
    """Some ranges of every partition, pinned; of what lies in them, what came in a window."""
    ranges = []
    for topic, partition in sorted({(one.topic, one.partition) for one in log}):
        cuts = sorted(draw(st.sets(st.integers(0, len(log)), max_size=4)))
        ranges += [Range(topic, partition, start, end) for start, end in list(pairwise(cuts))[::2]]
    since = draw(st.integers(NOW * 1000, NOW * 1000 + len(log)))
    sources = tuple(sorted({source_of(one.topic) for one in log}))
    return pinned_to(selected(sources, from_ms=draw(st.sampled_from((0, since)))), ranges)


async def nothing(*_: object) -> None:
    return None


async def fold(connection: Connection, schema: str, records: Sequence[FakeRecord]) -> None:
    folding = SchemaFolding.into(schema)
    await folding.commit(connection, [folding.fold(one) for one in records], nothing, nothing)


async def changed_rows(connection: Connection, before: str, after: str) -> dict[str, TableChange]:
    """Whole fact rows, what carries the merge included."""
    found = {}
    for table in TABLES:
        rows = [
            {
                table.key(tuple(row)): tuple(row)
                for row in await connection.fetch(f"SELECT {table.names} FROM {side}.{table.name}")
            }
            for side in (before, after)
        ]
        assert rows[0].keys() <= rows[1].keys(), "a replay takes nothing away"
        added = len(rows[1].keys() - rows[0].keys())
        changed = sum(rows[1][key] != row for key, row in rows[0].items())
        if added or changed:
            found[table.name] = TableChange(added, changed)
    return found


@pytest.mark.parametrize("provider", STORIES)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
async def test_a_dry_run_of_a_pinned_plan_is_what_the_run_changes(
    provider: str, data: st.DataObject, shared_connection: Connection
) -> None:
    log = data.draw(logs([story_record(webhook, NOW) for webhook in data.draw(stories(provider)).webhooks]))
    folded = data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log)))
    plan = data.draw(plans(log))
    await empty(shared_connection)
    await fold(shared_connection, "gen_1", [one for one, is_folded in zip(log, folded, strict=True) if is_folded])
    stands = await physical_rows(shared_connection)
    reader = cast(LogReader, Log(log, data.draw(st.integers(1, 9))))

    said = await dry_run(reader, shared_connection, plan, lambda _: None)

    assert await physical_rows(shared_connection) == stands, "it changes nothing"
    assert (
        await shared_connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()") == 0
    )
    await keep_a_copy(shared_connection, "was")
    selected = [one for one in log if any(holds(part, one) for part in plan.ranges)]
    await fold(shared_connection, "gen_1", [one for one in selected if plan.selection.holds_time(one.timestamp)])
    assert said.tables == await changed_rows(shared_connection, "was", "gen_1")
    assert said.diff == await difference(shared_connection, "was", "gen_1")


async def keep_a_copy(connection: Connection, schema: str) -> None:
    """Of the live facts."""
    await create_facts(connection, schema)
    for table in TABLES:
        await connection.execute(f"TRUNCATE {schema}.{table.name}")
        await connection.execute(f"INSERT INTO {schema}.{table.name} SELECT * FROM gen_1.{table.name}")
