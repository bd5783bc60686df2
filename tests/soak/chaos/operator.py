"""What an operator does meanwhile, by the real commands. Each act returns what is to be told of it.

A command may be refused, or find a server away: both are answers. What is none (an exit code that is not ours, a
traceback, no end) is a surprise.
"""

import asyncio
import json
import random
from asyncio.subprocess import PIPE
from typing import Any, NamedTuple

import asyncpg
from aiokafka.admin import NewPartitions
from aiokafka.errors import KafkaError

from tests.soak.chaos.aside import ANEW, Stream, bug_of
from tests.soak.verdict import SOURCES
from tests.support import forks, topics
from tests.support.processes import Installation

LIMIT_SECONDS = 900.0
"""No command takes as long."""

REASON = ("--reason", "chaos")
MAX_KEPT = 4
"""Generations: each costs a fold of every record."""

AWAY = 69
ANSWERS = (0, 1, AWAY)
"""Done; refused, or different; a server is away."""

AWAY_SECONDS = 120.0

AWAY_ERRORS = (OSError, TimeoutError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What keeps an act of our own hand from being done, while a server is away."""

LOST = "lacks what the log no longer holds"
FOLD_SECONDS = 120.0
"""Until what is acknowledged is folded, and until a loss is told."""

_EVENTS = "SELECT DISTINCT event_id FROM redrive.event_index WHERE source = $1"
_POSITIONS = """
    SELECT partition, next_offset FROM redrive.positions JOIN redrive.generation ON live = generation WHERE topic = $1
"""
_LOST = """
    SELECT partition, end_offset FROM redrive.lost_ranges JOIN redrive.generation ON live = generation
    WHERE topic = $1 AND first_offset = 0
"""


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    error: str

    @property
    def last(self) -> str:
        return " ".join((self.error or self.out).split())[-160:]

    def __str__(self) -> str:
        return f"exit {self.code}" + (f", {self.last}" if self.code else "")


class Operator:
    """One person, who does one thing after the other."""

    def __init__(self, installation: Installation, anew: Stream) -> None:
        self._installation = installation
        self._anew = anew
        self.surprises: list[str] = []

    async def command(self, *arguments: str) -> Said:
        """Typed again while a server is away, for a while."""
        patience = asyncio.get_running_loop().time() + AWAY_SECONDS
        while (said := await self._command(*arguments)).code == AWAY:
            if asyncio.get_running_loop().time() > patience:
                break
            await asyncio.sleep(2)
        return said

    async def _command(self, *arguments: str) -> Said:
        process = await forks.redrive(
            *arguments,
            cwd=self._installation.folder,
            env=self._installation.environment,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                out, error = await process.communicate()
        except TimeoutError:
            process.kill()
            self.surprises.append(f"redrive {' '.join(arguments)}: no end in {LIMIT_SECONDS:.0f} s")
            return Said(-9, "", "no end")
        said = Said(process.returncode or 0, out.decode(), error.decode())
        if said.code not in ANSWERS or "Traceback" in said.error:
            self.surprises.append(f"redrive {' '.join(arguments)}: {said.code} {said.error[-1500:]}")
        return said

    async def until_done(self, *arguments: str) -> Said:
        """As often as a server is away, or somebody else is at it."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while (said := await self.command(*arguments)).code:
                await asyncio.sleep(1)
        return said

    async def _flip(self, *arguments: str) -> str:
        """Where the deleted topic is all that keeps it back, its loss is accepted: it makes no rows."""
        said = await self.command("rebuild", *arguments, *REASON)
        told = f"rebuild {' '.join(arguments)}: {said}"
        if said.code == 1 and LOST in said.error and _names_only(said.error, ANEW):
            said = await self.command("rebuild", *arguments, "--accept-loss", *REASON)
            told += f"; --accept-loss: {said}"
        return told

    async def _kept(self) -> tuple[int, list[int]]:
        """The live generation, and the others that are kept."""
        said = await self.command("rebuild", "list", "--json")
        if said.code:
            return 0, []
        found: list[dict[str, Any]] = json.loads(said.out)["generations"]
        (live,) = (one["generation"] for one in found if one["state"] == "live")
        return live, sorted(one["generation"] for one in found if one["generation"] != live)

    async def _make_room(self) -> None:
        _, others = await self._kept()
        for number in others[: max(len(others) + 2 - MAX_KEPT, 0)]:
            await self.command("rebuild", "drop", str(number), *REASON)

    async def rebuild(self, order: random.Random) -> str:
        await self._make_room()
        return f"rebuild: {await self.command('rebuild', *REASON)}"

    async def apply(self, order: random.Random) -> str:
        await self._make_room()
        return await self._flip("--apply")

    async def rebuild_only(self, order: random.Random) -> str:
        await self._make_room()
        table = order.choice(["payments", "messages", "calls"])
        arguments = ("rebuild", "--only", table, "--apply", *REASON)
        return f"rebuild --only {table} --apply: {await self.command(*arguments)}"

    async def flip(self, order: random.Random) -> str:
        _, others = await self._kept()
        if not others:
            return "rebuild --apply --generation: no other is kept"
        return await self._flip("--apply", "--generation", str(order.choice(others)))

    async def rollback(self, order: random.Random) -> str:
        return await self._flip("--rollback")

    async def drop(self, order: random.Random) -> str:
        _, others = await self._kept()
        if not others:
            return "rebuild drop: no other is kept"
        number = str(order.choice(others))
        return f"rebuild drop {number}: {await self.command('rebuild', 'drop', number, *REASON)}"

    async def replay(self, order: random.Random) -> str:
        source, minutes = order.choice(SOURCES[:-1]), order.randrange(1, 10)
        arguments = ("replay", "run", "--source", source, "--from", f"{minutes}m ago", *REASON)
        return f"replay run of {source}, {minutes} minutes: {await self.command(*arguments)}"

    async def pause(self, order: random.Random) -> str:
        source, seconds = order.choice(SOURCES[:-1]), order.uniform(1, 8)
        paused = await self.command("sources", "pause", source, *REASON)
        await asyncio.sleep(seconds)
        resumed = await self.until_done("sources", "resume", source, *REASON)
        return f"sources pause {source}: {paused}; resume after {seconds:.1f} s: {resumed}"

    async def bug(self, order: random.Random) -> str:
        """A projection raises for some seconds; then its dead letters are folded again."""
        seconds = order.uniform(3, 10)
        bug_of(self._installation).touch()
        try:
            await asyncio.sleep(seconds)
        finally:
            bug_of(self._installation).unlink()
        said = await self.command("dead-letters", "requeue", "--all", *REASON)
        return f"a bug for {seconds:.1f} s; dead-letters requeue --all: {said.out.strip() or said}"

    async def partition(self, order: random.Random) -> str:
        """One more, of a topic with traffic."""
        name = f"webhooks.{order.choice([*SOURCES[:-1], ANEW])}"
        servers = self._installation.address("KAFKA_BOOTSTRAP_SERVERS")

        async def add() -> None:
            async with topics.admin(servers) as client:
                (described,) = await client.describe_topics([name])
                await client.create_partitions({name: NewPartitions(len(described["partitions"]) + 1)})

        await _in_spite_of_kills(add)
        return f"a partition is added to {name}"

    async def anew(self, order: random.Random) -> str:
        """The topic goes with all that was acknowledged and folded; what comes from then on must be on the new one."""
        name, servers = f"webhooks.{ANEW}", self._installation.address("KAFKA_BOOTSTRAP_SERVERS")
        async with self._anew.turn:
            try:
                async with asyncio.timeout(FOLD_SECONDS):
                    while not {*self._anew.acknowledged} <= {row[0] for row in await self._ask(_EVENTS, ANEW)}:
                        await asyncio.sleep(0.5)
                    folded = {row[0]: row[1] for row in await self._ask(_POSITIONS, name) if row[1]}
            except TimeoutError:
                return f"{name} is left alone: it was not folded within {FOLD_SECONDS:.0f} s"
            await _in_spite_of_kills(lambda: topics.delete(servers, [name]))
            lost = {*self._anew.acknowledged}
            self._anew.lost |= lost
        # Traffic meets the topic that is missing.
        await asyncio.sleep(order.uniform(0, 3))
        partitions = order.choice([3, 12])
        await _in_spite_of_kills(lambda: topics.create(servers, name, partitions))
        said = f"{name} is deleted with {len(lost)} messages, and made anew; {await self._told_as_lost(name, folded)}"
        if order.random() < 0.5:
            # Once the loss is told: an ingress knows by then, too, that the copies of before are gone.
            self._anew.again += sorted(lost)
            said += "; all are sent again"
        return said

    async def _told_as_lost(self, name: str, folded: dict[int, int]) -> str:
        """Once the live generation's lost ranges have all that was folded."""
        lost: dict[int, int] = {}
        try:
            async with asyncio.timeout(FOLD_SECONDS):
                while any(lost.get(part, 0) < end for part, end in folded.items()):
                    await asyncio.sleep(0.5)
                    lost = {row[0]: row[1] for row in await self._ask(_LOST, name)}
        except TimeoutError:
            self.surprises.append(f"{name}: lost were {folded}, told is {lost}")
        return f"lost_ranges tells of {sum(folded.values())} offsets"

    async def _ask(self, sql: str, *parameters: str) -> list[asyncpg.Record]:
        """As long as it takes, each time over a connection of its own."""
        while True:
            try:
                connection = await asyncpg.connect(self._installation.address("DATABASE_URL"), timeout=10)
                try:
                    return await connection.fetch(sql, *parameters, timeout=10)
                finally:
                    connection.terminate()
            except AWAY_ERRORS:
                await asyncio.sleep(1)


def _names_only(error: str, source: str) -> bool:
    """Whether every lost range that a refusal names is of that source."""
    return error.count("webhooks.") == error.count(f"webhooks.{source}:")


async def _in_spite_of_kills(work: Any) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            try:
                await work()
                return
            except (AssertionError, *AWAY_ERRORS):
                await asyncio.sleep(1)
