"""`GET` and `POST /api/rebuilds`. The modules that they call do the work; the follower folds new generations."""

import asyncio
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
from aiohttp import web
from pydantic import RootModel

from replay.api.fields import Nothing
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.audit import Author
from replay.rebuild import lifecycle, snapshot
from replay.rebuild.flip import APPLY, ROLLBACK, flip
from replay.rebuild.order import RebuildOrder, describe_all, drop_one
from replay.rebuild.snapshot import SnapshotOrder
from replay.rebuild.snapshot_jobs import SnapshotJobs
from replay.tables import generations
from replay.tables.generations import RebuildPorts
from schemas.errors import InvalidTransition, Misconfigured, Unavailable
from schemas.openapi import Document


class GenerationEntry(Document):
    """Offsets `folded`, of those up to the live positions; `lost` are those that the log no longer held. `settled`: not
    while a flip to it left events to re-drive.
    """

    generation: int
    state: Literal["live", "previous", "building", "ready"]
    only: list[str] | None
    folded: int
    to_fold: int
    lost: int
    settled: bool
    operator: str | None
    reason: str | None
    created_at: datetime
    ready_at: datetime | None


class Scratch(Document):
    """The state of a moment, in the schema `scratch_<name>`."""

    name: str
    state: Literal["building", "ready"]
    as_of: datetime
    operator: str
    reason: str | None
    created_at: datetime


class Rebuilds(Document):
    generations: list[GenerationEntry]
    scratches: list[Scratch]


class Rebuilt(Document):
    generation: int
    state: Literal["live", "building"]
    previous: int | None


class DropDone(Document):
    dropped: str


class RebuildDone(RootModel[Rebuilt | DropDone]):
    """The result of an order."""


LIST: Final = Route("get", "/api/rebuilds", "List the generations and the snapshots", Nothing, Nothing, {200: Rebuilds})
ORDER: Final = Route(
    "post",
    "/api/rebuilds",
    "Fold a new generation, make one live, create a snapshot, or drop either",
    Nothing,
    RebuildOrder,
    {200: RebuildDone, 201: Scratch},
    ("invalid_transition",),
)


class RebuildRoutes:
    """`pool` is for short questions, and `ports` are used by nothing else."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", ports: RebuildPorts, scratches: SnapshotJobs) -> None:
        self._pool = pool
        self._ports = ports
        self._scratches = scratches
        # Two at once could each hold connections that the other needs to end.
        self._moving = asyncio.Lock()

    def routes(self) -> list[Endpoint]:
        return [LIST.to(self._list), ORDER.to(self._order)]

    async def _list(self, _: RouteCall[Nothing, Nothing]) -> web.Response:
        async with self._pool.acquire() as connection:
            return answer(await describe_all(connection))

    async def _order(self, call: RouteCall[Nothing, RebuildOrder]) -> web.Response:
        order = call.given
        author = Author(call.operator, order.reason)
        try:
            if (moment := order.snapshot()) is not None:
                return await self._make(moment, author)
            if order.drop is not None:
                async with self._pool.acquire() as connection:
                    await drop_one(connection, str(order.drop), author)
                return answer({"dropped": str(order.drop)})
            if order.apply is None and not order.rollback:
                return answer(await self._begin(order, author))
            async with self._moving:
                return answer(await self._move(order, author))
        except Misconfigured as error:
            raise InvalidTransition(str(error)) from error

    async def _begin(self, order: RebuildOrder, author: Author) -> dict[str, Any]:
        only = generations.tables_named(order.only)
        async with self._pool.acquire() as connection:
            generation = await lifecycle.begin(connection, self._ports, only, author)
        return {"generation": generation.number, "state": generation.state, "previous": None}

    async def _move(self, order: RebuildOrder, author: Author) -> dict[str, Any]:
        ports = self._ports
        async with self._pool.acquire() as connection:
            number = await order.destination(connection) or 0
            found = await generations.find(connection, number)
            if found.state == "building":
                raise InvalidTransition(f"generation {number} is being built")
        async with ports.open_log() as reader:
            action = ROLLBACK if order.rollback else APPLY
            moved = await flip(ports, reader, number, action, author, order.accept_loss)
        return {"generation": number, "state": "live", "previous": moved["previous"]}

    async def _make(self, moment: SnapshotOrder, author: Author) -> web.Response:
        await self._scratches.start(moment, author)
        async with self._pool.acquire() as connection:
            made = [one for one in await snapshot.describe_all(connection) if one["name"] == moment.name]
        if not made:
            raise Unavailable(f"the state {moment.name} was begun, and failed at once; the console's log says why")
        return answer(made[0], 201)
