"""One simulated history from one seed: deliveries, faults, and what must hold whatever happened."""

import asyncio
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from ingest import append_or_spool
from ingest.dedupe import keeper, store, window
from ingest.dedupe.window import Content
from ingest.http.responses import HttpAnswer
from ingest.spool import spool
from processors.fold import combine
from schemas.lattice import Row, Table
from tests.simulation.broker import Broker
from tests.simulation.corpus import Parcel, choose, fingerprints
from tests.simulation.folding import Database, Processors, fold_all
from tests.simulation.host import Host
from tests.simulation.jobs import Runners
from tests.simulation.scheduler import Scheduler

FAULT_SECONDS = 15.0
SETTLE_SECONDS = 300.0
ANSWER_SECONDS = 8.0


@dataclass
class Outcome:
    """`failures` is empty where all that must hold held."""

    seed: int
    failures: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    """Of the whole history: the same for the same seed."""


class _Clock:
    """Stands for the module `time` in what is simulated."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic(self) -> float:
        return self._scheduler.now

    perf_counter = monotonic


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.scheduler = scheduler = Scheduler(seed)
        self.order = order = scheduler.random
        self.outcome = Outcome(seed)
        self.parcels = choose(order, order.randint(1, 4))
        self.by_content: dict[Content, Parcel] = {parcel.content: parcel for parcel in self.parcels}
        self.broker = Broker(scheduler, fingerprints(self.parcels))
        if order.random() < 0.2:
            self.broker.refuses.add(order.choice(self.parcels).content)
        topics = sorted({parcel.source.topic for parcel in self.parcels})
        self.host = Host(scheduler, self.broker, folder, topics)
        self.processors = Processors(scheduler, self.broker, Database(), order.choice([1, 2, 3]))
        self.replays = Runners(scheduler, self.broker, self.processors.database, order.choice([1, 2, 3]))
        self.provider = scheduler.node("provider")
        self.acknowledged: set[Content] = set()
        self._open = 0
        self._is_calm = False

    def run(self) -> Outcome:
        scheduler = self.scheduler
        self.host.start()
        self.provider.call_soon(self._deliver_all)
        self._plan_faults()
        scheduler.run(lambda: False, FAULT_SECONDS)
        self._calm_down()
        if not scheduler.run(self._is_settled, SETTLE_SECONDS):
            self._fail(f"not settled: {self._open} deliveries open, errors {scheduler.errors}")
        self._judge()
        self.outcome.events["steps"] = scheduler.steps
        self.outcome.digest = f"{scheduler.steps}/{scheduler.now}/{scheduler.random.random()}"
        return self.outcome

    def _fail(self, what: str) -> None:
        self.outcome.failures.append(f"at {self.scheduler.now:.3f} s: {what}")

    # Deliveries

    def _deliver_all(self) -> None:
        for parcel in self.parcels:
            when = self.order.random() * FAULT_SECONDS * 0.9
            copies = self.order.choice([1, 1, 1, 2, 4])
            for _ in range(copies):
                self._open += 1
                apart = self.order.choice([0.0, 0.01, 1.0, 10.0]) * self.order.random()
                self.provider.call_later(when + apart, self._send, parcel)

    def _send(self, parcel: Parcel) -> None:
        """One attempt; another where no 2xx came back."""
        attempt = {"is_over": False}

        def give_up() -> None:
            if not attempt["is_over"]:
                attempt["is_over"] = True
                self.provider.call_later(self.order.random() * 2, self._send, parcel)

        def hear(answer: HttpAnswer) -> None:
            self.outcome.events[f"answered {answer.status}"] += 1
            if answer.status == 200:
                # Sent is what counts, even if nobody hears it any more.
                self.acknowledged.add(parcel.content)
            self.provider.call_later(self.order.random() * 0.01, heard, answer.status)

        def heard(status: int) -> None:
            if attempt["is_over"]:
                return
            if status != 200:
                give_up()
                return
            attempt["is_over"] = True
            self._open -= 1

        listening = [process for process in self.host.processes.values() if process.is_listening]
        if listening:
            process = self.order.choice(listening)
            process.node.call_later(self.order.random() * 0.01, process.receive, parcel, hear)
        self.provider.call_later(ANSWER_SECONDS if listening else 0.5, give_up)

    # Faults

    def _plan_faults(self) -> None:
        """Some of each kind; some seeds have none of one."""
        kinds: dict[str, Callable[[], None]] = {
            "process killed": lambda: self.host.kill(self.order.randrange(self.host.count)),
            "host killed": self.host.kill_all,
            "power cut": self.host.cut_power,
            "broker away": self._stop_broker,
            "disk faults": self._hurt_disk,
            "processor killed": self.processors.kill,
            "rebalance": self.processors.rebalance,
            "replay": self.replays.put,
            "runner killed": self.replays.kill,
            "replays paused": self.replays.pause,
            "replays resumed": self.replays.resume,
            "replays cancelled": self.replays.cancel,
        }
        if self.order.random() < 0.2:
            kinds["clock jump"] = self._jump
        for name, happens in kinds.items():
            for _ in range(self.order.choice([0, 1, 2, 5])):
                self.broker.node.call_later(self.order.random() * FAULT_SECONDS, self._happen, name, happens)

    def _happen(self, name: str, happens: Callable[[], None]) -> None:
        self.outcome.events[name] += 1
        happens()
        if "killed" in name or "power" in name:
            self._check_durable(name)

    def _stop_broker(self) -> None:
        self.broker.is_up = False
        self.broker.node.call_later(self.order.random() * 6, self._start_broker)

    def _start_broker(self) -> None:
        self.broker.is_up = True

    def _jump(self) -> None:
        """The wall clock alone, either way: whoever sets it must not cost a second record of anything."""
        self.scheduler.wall_offset_ms += self.order.choice([-3_600_000, -1000, 1000, 3_600_000])

    def _hurt_disk(self) -> None:
        self.host.system.fault_share = self.order.choice([0.1, 0.5, 1.0])
        self.broker.node.call_later(self.order.random() * 3, self._mend_disk)

    def _mend_disk(self) -> None:
        self.host.system.fault_share = 0.0

    def _calm_down(self) -> None:
        self._start_broker()
        self._mend_disk()
        self.broker.is_calm = True
        self.replays.resume()

    # What must hold

    def _check_durable(self, after: str) -> None:
        """Invariant 1: what was answered 2xx is on the log, or in the spool."""
        kept = {one.content for one in self.host.spooled()} | set(self.broker.contents())
        if lost := self.acknowledged - kept:
            self._fail(f"after {after}: {len(lost)} acknowledged and neither on the log nor in the spool")

    def _is_settled(self) -> bool:
        return not self._open and self.host.is_drained and self.processors.is_done and self.replays.is_done

    def _judge(self) -> None:
        self._check_durable("all")
        self.outcome.failures += self.replays.judge()
        self.outcome.events["replays done"] = sum(job.state == "done" for job in self.replays.jobs)
        on_log = Counter(self.broker.contents())
        if missing := self.by_content.keys() - on_log.keys() - self.broker.refuses:
            self._fail(f"{len(missing)} contents are not on the log")
        # Invariant 4: one record for each, where everybody knew what came of their appends.
        again = {content for content, count in on_log.items() if count > 1} - self.broker.in_doubt
        if again:
            self._fail(f"{len(again)} contents are on the log more than once, and none of their appends was in doubt")
        self.outcome.events["records"] = on_log.total()
        self.outcome.events["in doubt"] = len(self.broker.in_doubt)
        self._judge_tables()

    def _judge_tables(self) -> None:
        """Invariant 5: the tables are the merge of the set of records, each taken once, in any order."""
        parcels = [parcel for content, parcel in self.by_content.items() if content not in self.broker.refuses]
        expected: dict[tuple[Table[Any], Row], Row] = {}
        records = [parcel.record() for parcel in parcels]
        found = [one for record in records for one in fold_all((record.topic, 0), 0, [record])]
        for table, rows in combine(found).tables.items():
            expected |= {(table, row[: table._key_count]): row for row in rows}
        actual = {
            (table, key): row for table, rows in self.processors.database.tables.items() for key, row in rows.items()
        }
        if actual != expected:
            wrong = [key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key)]
            self._fail(f"{len(wrong)} rows are not the merge of their records, of {len(expected)}")


@contextmanager
def _simulated(world: World) -> Iterator[None]:
    """The product sees the simulated clock and the simulated system."""
    clock, system = _Clock(world.scheduler), world.host.system
    with (
        mock.patch.object(append_or_spool, "time", clock),
        mock.patch.object(keeper, "time", clock),
        mock.patch.object(window, "time", clock),
        mock.patch.object(window, "os", system),
        mock.patch.object(spool, "os", system),
        mock.patch.object(spool, "write_all", system.write_all),
        mock.patch.object(store, "os", system),
    ):
        yield


def simulate(seed: int) -> Outcome:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="redrive-simulation-", dir=memory if memory.is_dir() else None))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        world = World(seed, folder)
        with _simulated(world):
            return world.run()
    finally:
        logging.disable(level)
        asyncio._set_running_loop(None)
        shutil.rmtree(folder, ignore_errors=True)
