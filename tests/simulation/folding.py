"""The fold, over a database in memory. The projections and the merge are the real ones (invariants 5,
7 and 8); transactions are taken to be what Postgres makes of them: all or nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from processors.fold import Changes, combine, fold_record
from processors.outcome import Folded
from schemas.facts import TABLES
from schemas.lattice import Row, Table
from schemas.topics import TopicPartition
from tests.simulation.broker import Broker
from tests.simulation.scheduler import Node, Scheduler
from tests.support.records import FakeRecord

Tables = dict[Table[Any], dict[Row, Row]]


class Gap(Exception):
    """The batch starts past the stored position."""


class Database:
    """Fact tables, the event index, and the positions."""

    def __init__(self) -> None:
        self.tables: Tables = {table: {} for table in TABLES}
        self.index: dict[Any, str] = {}
        self.positions: dict[TopicPartition, int] = {}

    def commit_batch(self, at: TopicPartition, start: int, end: int, changes: Changes) -> None:
        """As `redrive.advance` says it."""
        stored = self.positions.get(at, 0)
        if stored < start:
            raise Gap
        self.write(changes)
        self.positions[at] = max(stored, end)

    def write(self, changes: Changes) -> int:
        """How many rows are not what they were."""
        changed = 0
        for table, rows in changes.tables.items():
            known = self.tables[table]
            for row in rows:
                key = row[: table._key_count]
                joined = table.join(known[key], row) if key in known else row
                changed += joined != known.get(key)
                known[key] = joined
        for event in changes.events:
            changed += self.index.get(event.key) is None
            self.index[event.key] = event.status
        return changed


def fold(broker: Broker, at: TopicPartition, start: int, end: int) -> list[Folded]:
    return fold_all(at, start, broker.log[at][start:end])


def fold_all(at: TopicPartition, start: int, records: Sequence[Any]) -> list[Folded]:
    found = []
    for number, record in enumerate(records):
        raw = FakeRecord(*at, start + number, record.timestamp_ms, record.key, record.value, record.headers)
        one = fold_record(raw)
        assert not one.letters, one
        found.append(one)
    return found


class Processors:
    """Workers that share the partitions, and lose them to one another; each starts where its rows stand."""

    def __init__(self, scheduler: Scheduler, broker: Broker, database: Database, count: int) -> None:
        self._scheduler = scheduler
        self._broker = broker
        self.database = database
        self._epoch = 0
        self._owners: list[int] = list(range(count))
        self._workers = {number: self._started(number) for number in range(count)}

    def _started(self, number: int) -> Node:
        node = self._scheduler.node(f"processor-{number}")
        node.spawn(lambda: self._work(node, number))
        return node

    def kill(self) -> None:
        number = self._scheduler.random.choice(list(self._workers))
        self._workers[number].crash()
        self._workers[number] = self._started(number)

    def rebalance(self) -> None:
        """The old owners hear of it late: until then they are zombies."""
        self._epoch += 1
        self._scheduler.random.shuffle(self._owners)

    def _is_owner(self, number: int, at: TopicPartition, epoch: int) -> bool:
        # By the text: a hash of strings differs from run to run.
        return self._owners[(sum(at[0].encode()) + at[1] + epoch) % len(self._owners)] == number

    async def _work(self, node: Node, number: int) -> None:
        order, broker, database = self._scheduler.random, self._broker, self.database
        while True:
            epoch = self._epoch
            await asyncio.sleep(order.random() * 0.3)
            reading = {at: database.positions.get(at, 0) for at in broker.log if self._is_owner(number, at, epoch)}
            known = epoch
            while known == epoch:
                await asyncio.sleep(0.05 + order.random() * 0.2)
                # Of a new assignment it hears late.
                known = self._epoch if order.random() < 0.7 else known
                for at in sorted(broker.log):
                    if self._is_owner(number, at, epoch) and broker.is_up:
                        reading.setdefault(at, database.positions.get(at, 0))
                        await self._fold_batch(at, reading)

    async def _fold_batch(self, at: TopicPartition, reading: dict[TopicPartition, int]) -> None:
        order, broker = self._scheduler.random, self._broker
        start = reading[at]
        end = min(start + order.randint(1, 20), len(broker.log[at]))
        if start == end:
            if self.database.positions.get(at, 0) < end and order.random() < 0.1:
                # It has stalled: nothing follows that would show the gap.
                reading[at] = self.database.positions.get(at, 0)
            return
        if broker.chance(0.03):
            # What a client fetched and dropped: a gap, which must not be passed over.
            reading[at] = end
            return
        changes = combine(fold(broker, at, start, end))
        await asyncio.sleep(order.random() * 0.05)
        try:
            self.database.commit_batch(at, start, end, changes)
        except Gap:
            reading[at] = self.database.positions.get(at, 0)
            return
        if broker.chance(0.03):
            # The commit stands, and its answer is lost.
            reading[at] = self.database.positions.get(at, 0)
            return
        reading[at] = end

    @property
    def is_done(self) -> bool:
        return all(self.database.positions.get(at, 0) == end for at, end in self._broker.ends().items())
