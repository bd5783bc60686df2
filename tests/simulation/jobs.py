"""Replays as jobs, over the database in memory: a runner dies, is taken for dead and is not, or is told to stop
(invariant 8). The steps are those of `redrive.join_replay` and of the ledger; the projections and the merge are the real ones.
"""

import asyncio
from dataclasses import dataclass

from processors.fold import combine
from schemas.topics import TopicPartition
from tests.simulation.broker import Broker
from tests.simulation.folding import Database, fold
from tests.simulation.scheduler import Node, Scheduler

OPEN = ("planned", "running", "paused")


@dataclass
class Job:
    """A row of the ledger. `holder`: whose session has its lock."""

    at: TopicPartition
    start: int
    end: int
    position: int
    counted: int = 0
    state: str = "planned"
    holder: Node | None = None


class Runners:
    """Processes that run what the ledger holds."""

    def __init__(self, scheduler: Scheduler, broker: Broker, database: Database, count: int) -> None:
        self._scheduler = scheduler
        self._broker = broker
        self._database = database
        self.jobs: list[Job] = []
        self.failures: list[str] = []
        self._nodes = {number: self._started(number) for number in range(count)}

    def _started(self, number: int) -> Node:
        node = self._scheduler.node(f"runner-{number}")
        node.spawn(lambda: self._work(node))
        return node

    # What operators and fate do

    def put(self) -> None:
        """Some window below the live position; refused where it overlaps one that has not ended."""
        order, positions = self._scheduler.random, self._database.positions
        if not positions:
            return
        at = order.choice(sorted(positions))
        start = order.randrange(positions[at] + 1)
        end = order.randint(start, positions[at])
        if not any(job.at == at and job.state in OPEN and job.start < end and start < job.end for job in self.jobs):
            self.jobs.append(Job(at, start, end, start))

    def kill(self) -> None:
        number = self._scheduler.random.choice(list(self._nodes))
        self._nodes[number].crash()
        self._nodes[number] = self._started(number)

    def pause(self) -> None:
        for job in self.jobs:
            if job.state in ("planned", "running") and self._scheduler.random.random() < 0.7:
                job.state = "paused"

    def cancel(self) -> None:
        for job in self.jobs:
            if job.state in OPEN and self._scheduler.random.random() < 0.3:
                job.state = "cancelled"

    def resume(self) -> None:
        for job in self.jobs:
            if job.state == "paused":
                job.state = "planned"

    # What the product does

    async def _work(self, node: Node) -> None:
        while True:
            await asyncio.sleep(0.2 + self._scheduler.random.random() * 0.3)
            for job in list(self.jobs):
                if job.state in ("planned", "running") and (job.holder is None or not job.holder.is_alive):
                    job.holder, job.state = node, "running"
                    await self._run(job)
                    if job.holder is node:
                        job.holder = None

    async def _run(self, job: Job) -> None:
        order, reading = self._scheduler.random, job.position
        while reading < job.end:
            end = min(reading + order.randint(1, 3), job.end)
            changes = combine(fold(self._broker, job.at, reading, end))
            if self._broker.chance(0.2):
                # The session that holds it ends, and this process does not know yet.
                job.holder = None
            await asyncio.sleep(order.random())
            if job.state != "running" or not self.advance(job, reading, end):
                return
            if changed := self._database.write(changes):
                self.failures.append(f"a replay of {job.at} from {reading} changed {changed} rows")
            if self._broker.chance(0.03):
                # The commit stands, and its answer is lost.
                return
            reading = end
        if job.state == "running":
            job.state = "done"

    def advance(self, job: Job, start: int, end: int) -> bool:
        """In the transaction of the rows; of two that take themselves for the runner, the later one writes nothing."""
        if job.position > start:
            return False
        job.position = end
        job.counted += end - start
        return True

    # What must hold

    @property
    def is_done(self) -> bool:
        return all(job.state in ("done", "cancelled") for job in self.jobs)

    def judge(self) -> list[str]:
        wrong = [
            f"{job} has not counted each record once" for job in self.jobs if job.counted != job.position - job.start
        ]
        wrong += [
            f"{job} is done before its end" for job in self.jobs if job.state == "done" and job.position != job.end
        ]
        return [*self.failures, *wrong]
