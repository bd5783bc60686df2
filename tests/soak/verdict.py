"""What must hold when the load has ended and everything has been folded. Must only read."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

from replay.log.reader import LogReader
from schemas.cluster import Cluster
from tests.soak.load import Journal
from tests.soak.tale import Tale
from tests.support.processes import Installation
from tests.support.story import STORIES, Webhook
from tests.support.tables import story_differences

SOURCES = (*STORIES, "standardwebhooks")
SHOWN = 20

_POSITIONS = """
    SELECT topic, partition, next_offset FROM redrive.positions JOIN redrive.generation ON live = generation
"""

_INDEXED = """
    SELECT source, event_id, count(*) AS n FROM redrive.event_index WHERE source <> ALL($1) GROUP BY 1, 2
"""
_EVENTS = """
    SELECT count(*) AS events, sum(repeats) AS repeats, count(*) FILTER (WHERE status = 'dead') AS dead
    FROM webhook_events WHERE source <> ALL($1)
"""

Name = tuple[str, str]
"""A source, and a record id or a digest."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass
class Verdict:
    """`lost` was answered 2xx and is not on the log, or is there and not in the tables; `doubled` counts too often."""

    records: int = 0
    extra_records: int = 0
    events: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.differences)


async def until_settled(installation: Installation, seconds: float, aside: Sequence[str] = ()) -> None:
    """Until the spool is empty and every record of the log is folded, `aside` too: sources beside the story's."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await installation.metric("ingest", "redrive_ingest_spool_records") == 0 and await is_folded(
                    installation, installation.address("DATABASE_URL"), aside
                ):
                    return
            except (OSError, asyncpg.PostgresError):
                pass
            await asyncio.sleep(0.5)


async def is_folded(installation: Installation, database: str, aside: Sequence[str] = ()) -> bool:
    """Into the live generation of that database."""
    async with LogReader(Cluster(installation.address("KAFKA_BOOTSTRAP_SERVERS"))) as reader:
        ends = {
            (part.topic, part.partition): part.end
            for source in (*SOURCES, *aside)
            for part in await reader.tails(f"webhooks.{source}", 1)
        }
    connection = await asyncpg.connect(database, timeout=5)
    try:
        rows = await connection.fetch(_POSITIONS)
    finally:
        await connection.close()
    stored = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    return all(stored.get(at, 0) >= end for at, end in ends.items())


async def judge(installation: Installation, tale: Tale, journal: Journal, aside: Sequence[str] = ()) -> Verdict:
    """Of the story; `aside` are sources beside it, which the scenario judges itself."""
    verdict = Verdict()
    webhooks = tale.world.webhooks
    names: dict[Name, int] = {}
    for number, record_id in journal.acknowledged.items():
        # A provider's second attempt may differ in its bytes, and is the same record: either stands for both.
        names.setdefault(_name(webhooks[number], record_id), number)
    on_log = await _on_log(installation, names)
    verdict.records = on_log.total()
    verdict.extra_records = verdict.records - len(on_log)
    verdict.lost += [f"not on the log: {webhooks[n].path} {n}" for n in names.values() if n not in on_log]
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        await _judge_events(connection, tale, on_log, aside, verdict)
        if len(journal.acknowledged) == len(webhooks):
            verdict.differences += await story_differences(connection, tale.world)
    finally:
        await connection.close()
    return verdict


def _name(webhook: Webhook, record_id: str | None) -> Name:
    """How its record is known again: by the record id that was answered; where the answer has none, by its bytes."""
    source = webhook.path.partition("?")[0].split("/")[2]
    return source, record_id or _digest(webhook.body)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _on_log(installation: Installation, names: dict[Name, int]) -> "Counter[int]":
    """Webhook -> its records. What nobody sent would be a KeyError."""
    found: Counter[int] = Counter()
    async with LogReader(Cluster(installation.address("KAFKA_BOOTSTRAP_SERVERS"))) as reader:
        for source in SOURCES:
            async for _, records in reader.read(await reader.tails(f"webhooks.{source}", 2**62)):
                for record in records:
                    number = names.get((source, record.key.decode()))
                    found[names[source, _digest(record.value)] if number is None else number] += 1
    return found


async def _judge_events(
    connection: Connection, tale: Tale, on_log: "Counter[int]", aside: Sequence[str], verdict: Verdict
) -> None:
    """Each event is in the index once for each record that announces it, and in `webhook_events` once."""
    expected: Counter[Name] = Counter()
    for number, records in on_log.items():
        for event in tale.world.announced[number]:
            expected[event] += records
    rows = await connection.fetch(_INDEXED, [*aside])
    indexed = Counter({(row["source"], row["event_id"]): row["n"] for row in rows})
    verdict.events = len(indexed)
    verdict.lost += [f"not in the index: {event}" for event in (expected - indexed)]
    verdict.doubled += [f"too often in the index: {event}" for event in (indexed - expected)]
    row = await connection.fetchrow(_EVENTS, [*aside])
    assert row is not None
    if (row["events"], row["events"] + row["repeats"], row["dead"]) != (len(expected), expected.total(), 0):
        verdict.differences.append(f"webhook_events: {dict(row)}, expected {len(expected)} of {expected.total()}")
