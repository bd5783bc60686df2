"""A host with its ingest processes: the real window, spool, drain, keeper and storing, started as the service starts them.

Must not decide anything that the product decides.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ingest.append_or_spool import Storing
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.window import DedupeWindow
from ingest.handler import Exchange
from ingest.http.responses import HttpAnswer
from ingest.log.event_log import EventLog
from ingest.spool.drain import Drain
from ingest.spool.segment import Segment, SpooledRecord
from ingest.spool.spool import Spool
from schemas.errors import Unavailable
from tests.simulation.broker import Broker, ProcessLog
from tests.simulation.corpus import Parcel
from tests.simulation.disk import System
from tests.simulation.scheduler import Scheduler

WINDOW_MS = 7 * 86_400_000
RETRY_SECONDS = 0.5
WAIT_SECONDS = 5.0
MAX_IDS = 4000


class Process:
    """One ingest process of the host."""

    def __init__(self, host: "Host", number: int) -> None:
        self.node = host.scheduler.node(f"ingest-{number}")
        self.number = number
        self.is_listening = False
        self._host = host
        self._folder = host.folder / "spool" / str(number)
        self.spool = Spool(self._folder, host.spool_bytes)
        self.log = ProcessLog(host.broker, self.node)
        self.node.call_soon(self._build)

    def _build(self) -> None:
        """In its own time: whose pid it is decides who owns a claim."""
        table = self._host.table
        self.window = DedupeWindow(table, WINDOW_MS)
        log = cast(EventLog, self.log)
        self.storing = Storing(log, self.window, self.spool, WAIT_SECONDS, lambda: table.is_complete)
        self._keeper = None
        if self.number == 0:
            broker = self._host.broker
            open_tail = cast(Any, broker.open_tail)
            folder = self._host.folder / "dedupe"
            self._keeper = WindowKeeper(table, self.window, folder, open_tail, broker.topic_ids)
        self._drain = Drain(self.spool, log, self.window)
        self.node.spawn(self._start)

    async def _start(self) -> None:
        for spooled in self.spool.open():
            self.window.remember_spooled(spooled.content, spooled.record.timestamp_ms)
        self.window.has_read_spool(self.number)
        self.is_listening = True
        for step in (self.log.start, self._catch_up):
            while True:
                try:
                    await step()
                    break
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS)
        self.node.spawn(self._drain.run)
        if self._keeper is not None:
            scheduler = self._host.scheduler
            keeper = self._keeper
            self.node.spawn(lambda: keeper.keep(lambda: scheduler.now_ms, lambda _: None, asyncio.Event()))

    async def _catch_up(self) -> None:
        if self._keeper is not None:
            await self._keeper.open(self._host.topics, self._host.scheduler.now_ms)
        elif not self._host.table.is_complete:
            raise Unavailable("the first process is still reading the dedupe window")

    def receive(self, parcel: Parcel, reply: Callable[[HttpAnswer], None]) -> None:
        """As the handler does, once a delivery is verified."""
        end = Exchange(reply, parcel.source).end
        self.storing.store(parcel.source, parcel.arriving(self._host.scheduler.now_ms), parcel.identity, end)

    def crash(self) -> None:
        self.is_listening = False
        self.node.crash()
        self.log.crash()
        for func, args in self.node.doing.values():
            if getattr(func, "__name__", "") == "_append" and getattr(func, "__self__", None) is self.spool:
                self._tear(args[0])
        # The kernel closes its files, and with them goes the lock.
        for file in (self.spool._lock, self.spool._file):
            if file is not None:
                file.close()

    def _tear(self, records: Sequence[SpooledRecord]) -> None:
        """It was in the middle of a write."""
        segment = self.spool._current
        if segment is not None:
            data = b"".join(record.encode(segment.mark) for record in records)
            with segment.path.open("ab") as file:
                file.write(data[: self._host.scheduler.random.randint(0, len(data))])


class Host:
    """The processes, the table that they share, and the disk under them."""

    def __init__(self, scheduler: Scheduler, broker: Broker, folder: Path, topics: list[str]) -> None:
        self.scheduler = scheduler
        self.broker = broker
        self.folder = folder
        self.topics = topics
        self.alive: set[int] = set()
        self.system = System(scheduler, self.alive)
        self.count = scheduler.random.choice([1, 2, 3])
        self.spool_bytes = scheduler.random.choice([200_000, 64 * 2**20])
        self.table = IdTable(MAX_IDS)
        self.processes: dict[int, Process] = {}

    def start(self) -> None:
        for number in range(self.count):
            self._start(number)

    def _start(self, number: int) -> None:
        process = self.processes[number] = Process(self, number)
        self.alive.add(process.node.pid)

    def kill(self, number: int) -> None:
        """One process; its parent starts it again."""
        process = self.processes.pop(number, None)
        if process is not None:
            self._end(process)
            table = self.table
            self._later(lambda: self._start(number) if self.table is table else None)

    def kill_all(self) -> None:
        """All of them with their parent, and so with the table."""
        for process in list(self.processes.values()):
            self._end(process)
        self.processes.clear()
        self.table = IdTable(MAX_IDS)
        table = self.table
        self._later(lambda: self.start() if self.table is table else None)

    def cut_power(self) -> None:
        self.kill_all()
        self.system.cut_power(self.folder)

    def _end(self, process: Process) -> None:
        process.crash()
        self.alive.discard(process.node.pid)

    def _later(self, start: Callable[[], None]) -> None:
        self.broker.node.call_later(0.5 + self.scheduler.random.random() * 2, start)

    @property
    def is_drained(self) -> bool:
        return len(self.processes) == self.count and not any(
            not process.is_listening or process.spool.has_records.is_set() or process.spool._writing is not None
            for process in self.processes.values()
        )

    def spooled(self) -> list[SpooledRecord]:
        """What is on the disk, as the next process would find it, and what was set aside."""
        found: list[SpooledRecord] = []
        for path in [*self.folder.glob("spool/*/segment-*.spool"), *self.folder.glob("spool/*/set-aside/*.spool")]:
            with contextlib.suppress(FileNotFoundError):
                found += Segment(path).read()
        return found
