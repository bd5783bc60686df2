"""What is done to the stack under load: kills, a log that is away, nothing at all. Must not judge the outcome."""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.supervisor import Child
from tests.soak.census import Census, by_role
from tests.soak.load import Journal, Load
from tests.soak.tale import Tale
from tests.support.processes import Installation

VICTIMS = {"ingest-0": 4, "ingest-1": 4, "ingest": 1, "processors": 4, "kafka": 2, "postgres": 2}
"""Role -> how often it is chosen."""

CENSUS_SECONDS = 2.0


@dataclass
class Run:
    """One run of a scenario."""

    installation: Installation
    seed: int
    rate: float
    connections: int
    tale: Tale
    brokers: Sequence[Child] = ()
    """Where the run has a cluster of its own."""
    journal: Journal = field(default_factory=Journal)
    kills: Counter[str] = field(default_factory=Counter)
    most_spooled: float = 0
    aside: Sequence[str] = ()
    """Sources beside the story's, which the scenario judges itself."""
    further: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """What a scenario judges beside the story, once the rest is judged: a part of the document, `is_good` in it."""

    def __post_init__(self) -> None:
        self.census = Census(self.installation)
        self.load = Load(self.installation.ports["ingest"], self.rate, self.connections, self.journal)


@contextlib.asynccontextmanager
async def watched(run: Run, title: str, total: float, done: Callable[[], float]) -> AsyncIterator[None]:
    """A bar, and the memory of every process; what goes wrong in there is raised here."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    async def watch() -> None:
        with Progress(*columns) as progress:
            bar = progress.add_task(title, total=total)
            while True:
                process = run.installation.process
                assert process is not None
                assert process.returncode is None, run.installation.output()[-3000:]
                await asyncio.to_thread(run.census.take)
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(1):
                        spooled = await run.installation.metric("ingest", "redrive_ingest_spool_records")
                        run.most_spooled = max(run.most_spooled, spooled)
                progress.update(bar, completed=done(), description=f"{title}: {_state(run)}")
                await asyncio.sleep(CENSUS_SECONDS)

    watching = asyncio.create_task(watch())
    inner = asyncio.current_task()
    assert inner is not None
    watching.add_done_callback(lambda task: None if task.cancelled() else inner.cancel())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _state(run: Run) -> str:
    return f"{run.kills.total()} kills, {run.journal.retries} retries, at most {run.most_spooled:.0f} spooled"


async def kills(run: Run, deliveries: int, count: int) -> None:
    """`count` times kill -9 for somebody, at moments spread over so many deliveries."""
    order = random.Random(run.seed)
    moments = sorted(order.randrange(deliveries // 50, deliveries * 98 // 100) for _ in range(count))

    async def kill() -> None:
        for moment in moments:
            while run.journal.deliveries < moment:
                await asyncio.sleep(0.01)
            run.kills[await kill_one(run.installation, order)] += 1

    async with watched(run, "kills", deliveries, lambda: run.journal.deliveries):
        killing = asyncio.create_task(kill())
        try:
            await asyncio.gather(run.load.run(run.tale.deliveries(deliveries)), killing)
        finally:
            killing.cancel()


async def kill_one(installation: Installation, order: random.Random) -> str:
    """Whoever is chosen and alive; one that is just being started again is not yet there to be killed."""
    while True:
        role = order.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        victim = (await asyncio.to_thread(by_role, installation)).get(role)
        if victim is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
                return role
        await asyncio.sleep(0.05)


async def broker_kills(run: Run, deliveries: int, count: int) -> None:
    """`count` times kill -9 for one of the cluster's brokers; now and then for another before it is back."""
    order = random.Random(run.seed)
    moments = sorted(order.randrange(deliveries // 50, deliveries * 98 // 100) for _ in range(count))

    async def kill() -> None:
        for moment in moments:
            while run.journal.deliveries < moment:
                await asyncio.sleep(0.01)
            victim = order.choice([child for child in run.brokers if not child.has_exited] or run.brokers)
            victim.signal(signal.SIGKILL)
            run.kills[victim.command.name] += 1

    async with watched(run, "broker kills", deliveries, lambda: run.journal.deliveries):
        await asyncio.gather(run.load.run(run.tale.deliveries(deliveries)), kill())


async def outage(run: Run, seconds: float, around: float) -> None:
    """The broker is stopped, not killed, for so long: its connections hang, which is the harder half."""
    total = run.rate * (seconds + 2 * around)
    async with watched(run, "outage", total, lambda: run.journal.deliveries):

        async def stop_broker() -> None:
            run.journal.phase = "before"
            await asyncio.sleep(around)
            kafka = run.installation.service("kafka")
            run.journal.phase = "away"
            kafka.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                kafka.send_signal(signal.SIGCONT)
            run.journal.phase = "after"

        await asyncio.gather(run.load.run(run.tale.deliveries(round(total))), stop_broker())


async def memory(run: Run, seconds: float) -> None:
    """Nothing happens but load."""
    total = run.rate * seconds
    async with watched(run, "memory", total, lambda: run.journal.deliveries):
        await run.load.run(run.tale.deliveries(round(total)))
