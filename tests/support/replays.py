"""Replays in this process, wired as the services wire them; and targets that remember what they took."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from deploy.redriving import replay_jobs, replay_runner
from processors.outcome import RawRecord
from processors.store import LIVE_GENERATION
from replay.audit import Author
from replay.jobs import ledger
from replay.jobs.jobs import Jobs
from replay.jobs.ledger import NewReplay
from replay.jobs.plan import Plan, make_plan
from replay.jobs.runner import ReplayRunner
from replay.log.reader import LogReader
from replay.ports import Connection, SendResult
from replay.selection.matcher import Matcher
from replay.selection.selection import Range, Selection
from replay.tables.folding import LiveFolding
from tests.conftest import Stack
from tests.support.records import PARTITIONS, batch, produce
from tests.support.runtimes import runtime_of
from tests.support.selections import selected

ADA = Author("ada", "because")
RECORDS = 90
"""Of the fixture `folded_topic`."""


@dataclass
class Recorder:
    """A target, and what is known of it. `gate`: nothing is taken while it is closed."""

    taken: list[RawRecord] = field(default_factory=list)
    noted: list[tuple[RawRecord, SendResult]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Callable[[RawRecord], SendResult] = lambda _: SendResult("delivered", 200)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    portion: int | None = None

    async def take(self, records: Sequence[RawRecord]) -> Sequence[SendResult]:
        self.taken += records
        await self.gate.wait()
        return [self.answer(record) for record in records]

    async def note(
        self, connection: Connection, replay: uuid.UUID, outcomes: Sequence[tuple[RawRecord, SendResult]]
    ) -> None:
        assert connection.is_in_transaction()
        self.noted += outcomes


def runner_of(stack: Stack, database_url: str, recorder: Recorder | None = None, **changes: Any) -> ReplayRunner:
    target = recorder or Recorder()
    made = replay_runner(lambda: runtime_of(stack, Path(), database_url))
    return replace(made, **{"open_target": lambda *_: target, "note_outcomes": target.note, **changes})


def jobs_of(stack: Stack, database_url: str, recorder: Recorder | None = None, **changes: Any) -> Jobs:
    """As the console runs them, to the recorder instead of targets. `changes`: of the runner."""
    runner = runner_of(stack, database_url, recorder, **changes)
    return replay_jobs(lambda: runtime_of(stack, Path(), database_url), runner)


async def planned(stack: Stack, connection: Any, selection: Selection) -> Plan:
    async with LogReader(stack.cluster) as reader:
        folding = await LiveFolding.open(connection)
        return await make_plan(reader, connection, selection, folding.fold, lambda *_: None)


def pinned_to(selection: Selection, ranges: list[Range]) -> Plan:
    """The plan of a window that reads just these."""
    return Plan(selection, ranges, Matcher([(selection, None)]))


async def put(stack: Stack, connection: Any, selection: Selection, **terms: Any) -> uuid.UUID:
    """On the ledger, for whoever runs it."""
    plan = await planned(stack, connection, selection)
    generation = await connection.fetchval(LIVE_GENERATION)
    return await ledger.create(connection, NewReplay(plan, generation, ADA, **terms))


async def rerun(stack: Stack, database_url: str, connection: Any, selection: Selection, **terms: Any) -> dict[str, Any]:
    """To its end; returns the entry."""
    replay = await put(stack, connection, selection, **terms)
    await jobs_of(stack, database_url).take(replay)
    return await ledger.show_replay(connection, replay)


def everything(topic: str, **narrower: Any) -> Selection:
    return selected((topic.removeprefix("webhooks."),), from_ms=0, **narrower)


async def never_folded(stack: Stack, connection: Any, topic: str, count: int) -> None:
    """Payments on the log, below the live positions, and not one row of them: what a replay is for."""
    await produce(stack.servers, batch(topic, range(count)))
    ends = [(topic, partition, len(range(partition, count, PARTITIONS))) for partition in range(PARTITIONS)]
    await connection.executemany("INSERT INTO redrive.positions VALUES (1, $1, $2, $3)", ends)


async def state_of(connection: Any, replay: uuid.UUID) -> str:
    return str((await ledger.brief(connection, replay))["state"])
