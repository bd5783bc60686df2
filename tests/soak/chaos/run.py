"""The chaos run: disturbances of every kind at random moments under load, told as they happen, each with its number.

The seed decides which, when (counted in deliveries) and of what; what the machine makes of it is its own.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import click

from tests.soak.chaos import aside, hurts
from tests.soak.chaos.aside import ASIDE, Stream, bug_of
from tests.soak.chaos.operator import AWAY_ERRORS, REASON, Operator
from tests.soak.chaos.second import Second
from tests.soak.scenarios import Run, watched
from tests.soak.verdict import SHOWN, until_settled

HURTS = {"kill": 2, "freeze": 1}
"""Kind -> how often it is chosen."""

HURT_SHARE = 0.6
ACTS = (
    "rebuild",
    "apply",
    "rebuild_only",
    "flip",
    "rollback",
    "drop",
    "replay",
    "replay",
    "pause",
    "bug",
    "bug",
    "partition",
    "anew",
    "second",
    "second",
)
"""A deck: each is done before one is done again."""

MAX_WAITING = 1
"""Acts that wait for the operator; while there are more, nothing more happens, and the load goes on."""

ROUND = 2000
"""Deliveries by which the load is longer than was asked for, as often as it takes."""

SETTLE_SECONDS = 1800.0


@dataclass(frozen=True)
class Disturbance:
    """`moment` is in deliveries."""

    number: int
    moment: int
    kind: str


def plan(seed: int, deliveries: int, count: int) -> list[Disturbance]:
    order = random.Random(seed)
    moments = sorted(order.randrange(deliveries // 50, deliveries * 98 // 100) for _ in range(count))
    deck: list[str] = []
    found = []
    for number, moment in enumerate(moments, 1):
        if order.random() < HURT_SHARE:
            (kind,) = order.choices(list(HURTS), list(HURTS.values()))
        else:
            deck = deck or order.sample(ACTS, len(ACTS))
            kind = deck.pop()
        found.append(Disturbance(number, moment, kind))
    return found


class Chaos:
    """Hurts happen at their moment; the operator's acts one after the other, beside them."""

    def __init__(self, run: Run, deliveries: int, count: int) -> None:
        self._run = run
        self._deliveries = deliveries
        self._plan = plan(run.seed, deliveries, count)
        self._streams = [Stream(run.installation, name) for name in ASIDE]
        self._operator = Operator(run.installation, self._streams[0])
        self._second: Second | None = None
        self._acts: asyncio.Queue[Disturbance | None] = asyncio.Queue()
        self._told: list[str] = []
        self._done: Counter[str] = Counter()

    async def live(self) -> None:
        run = self._run
        try:
            async with watched(run, "chaos", self._deliveries, lambda: run.journal.deliveries):
                async with asyncio.TaskGroup() as group:
                    for stream in self._streams:
                        group.create_task(stream.run())
                    disturbing = group.create_task(self._disturb())
                    await run.load.run(run.tale.deliveries(self._deliveries))
                    while not disturbing.done():
                        await run.load.run(run.tale.deliveries(ROUND))
                    for stream in self._streams:
                        stream.end()
                self._tell("all is sent, and nobody disturbs any more")
                await self._settle()
        finally:
            bug_of(run.installation).unlink(missing_ok=True)
        run.aside = ASIDE
        run.further = self.judge

    async def _disturb(self) -> None:
        """Returns when all has been done."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._operate())
            late = 0
            for one in self._plan:
                while self._run.journal.deliveries < one.moment + late or self._acts.qsize() > MAX_WAITING:
                    await asyncio.sleep(0.01)
                # What follows comes as long after this one as if nobody had been waited for.
                late = self._run.journal.deliveries - one.moment
                if one.kind in HURTS:
                    group.create_task(self._do(one, getattr(hurts, one.kind), self._run))
                else:
                    self._acts.put_nowait(one)
            self._acts.put_nowait(None)

    def _tell(self, text: str) -> None:
        told = f"{self._run.journal.deliveries:>7} deliveries: {text}"
        self._told.append(told)
        click.echo(told, err=True)

    async def _operate(self) -> None:
        while (one := await self._acts.get()) is not None:
            act = self._toggle_second if one.kind == "second" else getattr(self._operator, one.kind)
            self._tell(f"#{one.number} {one.kind} …")
            await self._do(one, act)

    async def _do(self, one: Disturbance, act: Callable[..., Awaitable[str]], *arguments: Any) -> None:
        order = random.Random(f"{self._run.seed}/{one.number}")
        self._done[one.kind] += 1
        try:
            told = await act(*arguments, order)
        except AssertionError as error:
            self._operator.surprises.append(f"#{one.number} {one.kind}: {error}")
            told = f"{one.kind}: {error}"
        except AWAY_ERRORS as error:
            told = f"{one.kind}: not done, {type(error).__name__} {error}"
        self._tell(f"#{one.number} {told}")

    async def _toggle_second(self, order: random.Random) -> str:
        if self._second is None:
            self._second = Second(self._run.installation)
        if self._second.installation.process is None:
            await self._second.start()
            return "a second installation is started"
        told = await self._second.end()
        self._second.installation.process = None
        return f"the second installation: {told}"

    async def _settle(self) -> None:
        """Everything is folded, and what had a bug is folded again."""
        if self._second is not None and self._second.installation.process is not None:
            self._tell(f"the second installation: {await self._second.end()}")
        await until_settled(self._run.installation, SETTLE_SECONDS, ASIDE)
        said = await self._operator.until_done("dead-letters", "requeue", "--all", *REASON)
        self._tell(f"all is folded; dead-letters requeue --all: {said.out.strip()}")

    async def judge(self) -> dict[str, Any]:
        """Beside the story's tables: the two sources, the proof, and the tables of the second installation."""
        found: dict[str, Any] = {"seed": self._run.seed, "done": dict(self._done.most_common())}
        found["aside"] = await aside.judge(self._run.installation, self._streams)
        found["proof"] = await self._prove()
        found["second"] = await self._judge_second()
        found["surprises"] = self._operator.surprises[:SHOWN]
        found["is_good"] = (
            not any(one["wrong"] for one in found["aside"].values())
            and found["proof"]["verdict"] == "equal"
            and not found["second"].get("differences")
            and not found["surprises"]
        )
        found["told"] = self._told
        return found

    async def _prove(self) -> dict[str, Any]:
        """As it is; where only what was deleted with the topic keeps it from a verdict, with that loss accepted."""
        first = json.loads((await self._operator.command("prove", "--json")).out)
        found = {"verdict": first["verdict"], "reasons": first["reasons"], "losses": _brief(first["losses"])}
        found["differences"] = first["differences"][:SHOWN]
        of_others = [one for one in first["losses"] if one["topic"] != f"webhooks.{aside.ANEW}"]
        if first["verdict"] == "incomplete" and not of_others:
            why = "the topic was deleted by the chaos run"
            said = await self._operator.command("prove", "--accept-loss", "--reason", why, "--json")
            second = json.loads(said.out)
            found |= {"verdict_before": first["verdict"], "verdict": second["verdict"]}
            found |= {"losses": _brief(second["losses"]), "differences": second["differences"][:SHOWN]}
        return found

    async def _judge_second(self) -> dict[str, Any]:
        if self._second is None:
            return {}
        await self._second.until_folded()
        differences = await self._second.differences(self._run.tale)
        return {"differences": differences, "ended": await self._second.end()}


def _brief(losses: list[dict[str, Any]]) -> list[str]:
    return [
        f"{one['topic']}:{one['partition']}:{one['first_offset']}-{one['end_offset'] - 1} {one['state']}"
        for one in losses
    ]


async def chaos(run: Run, deliveries: int, count: int) -> None:
    await Chaos(run, deliveries, count).live()
