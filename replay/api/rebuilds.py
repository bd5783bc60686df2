"""`GET` and `POST /api/rebuilds`. What they do is in the modules they call; the follower folds what is begun here."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import asyncpg
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from replay.api.requests import answer, document_of, time_of
from replay.audit import Author
from replay.faults import first_fault
from replay.rebuild import lifecycle, snapshot
from replay.rebuild.flip import APPLY, ROLLBACK, flip, rollback_target
from replay.rebuild.snapshot import Moment
from replay.rebuild.snapshot_jobs import Scratches
from replay.selection.selection import MAX_TEXT, require_text
from replay.tables import generations
from replay.tables.generations import Ports
from schemas.errors import InvalidSelection, InvalidTransition, Misconfigured, Unavailable
from schemas.openapi import Document


class Generation(Document):
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
    generations: list[Generation]
    scratches: list[Scratch]


class RebuildOrder(BaseModel):
    """Fold a new generation (of `only` some tables), `apply` one that is ready, `rollback`, make the state `as_of` a
    moment under a `name`, or `drop` a generation by its number or a state by its name.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    reason: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    only: list[str] = []
    apply: int | None = Field(None, gt=0, lt=2**31)
    accept_loss: bool = False
    rollback: bool = False
    as_of: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    name: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    drop: Annotated[int, Field(gt=0, lt=2**31)] | Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] | None = None

    @classmethod
    def of(cls, body: dict[str, Any]) -> "RebuildOrder":
        """Raises `InvalidSelection`."""
        try:
            order = cls.model_validate(body)
        except ValidationError as error:
            raise InvalidSelection(first_fault(error)) from error
        for text in (order.reason, order.as_of, order.name, None if isinstance(order.drop, int) else order.drop):
            require_text(text)
        orders = (
            bool(order.only),
            order.apply is not None,
            order.rollback,
            order.as_of is not None,
            order.drop is not None,
        )
        if sum(orders) > 1:
            raise InvalidSelection("only, apply, rollback, as_of and drop are five orders: send one")
        if order.name is not None and order.as_of is None:
            raise InvalidSelection("name goes with as_of")
        if order.accept_loss and order.apply is None and not order.rollback and order.as_of is None:
            raise InvalidSelection("accept_loss goes with apply, rollback or as_of")
        order.moment()
        return order

    def moment(self) -> Moment | None:
        """Raises `InvalidSelection`."""
        at_ms = time_of({} if self.as_of is None else {"as_of": self.as_of}, "as_of")
        return None if at_ms is None else Moment.named(self.name, at_ms, self.accept_loss)


class Rebuilt(Document):
    generation: int
    state: Literal["live", "building"]
    previous: int | None


class Dropped(Document):
    dropped: str


class RebuildDone(RootModel[Rebuilt | Dropped]):
    """What became of an order."""


class RebuildRoutes:
    """For an application that has authenticated the request; `who` names the operator, `pool` is for short questions,
    and `ports` are used by nothing else.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        ports: Ports,
        scratches: Scratches,
        who: Callable[[web.Request], str],
    ) -> None:
        self._pool = pool
        self._ports = ports
        self._scratches = scratches
        self._who = who
        # Two at once could each hold connections that the other needs to end.
        self._moving = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/rebuilds", self._list), web.post("/api/rebuilds", self._order)]

    async def _list(self, _: web.Request) -> web.Response:
        async with self._pool.acquire() as connection:
            return answer(
                {
                    "generations": await generations.describe_all(connection),
                    "scratches": await snapshot.describe_all(connection),
                }
            )

    async def _order(self, request: web.Request) -> web.Response:
        order = RebuildOrder.of(await document_of(request))
        author = Author(self._who(request), order.reason)
        try:
            if (moment := order.moment()) is not None:
                return await self._make(moment, author)
            if order.drop is not None:
                return answer(await self._drop(str(order.drop), author))
            if order.apply is None and not order.rollback:
                return answer(await self._begin(order, author))
            async with self._moving:
                return answer(await self._move(order, author))
        except Misconfigured as error:
            raise InvalidTransition(str(error)) from error

    async def _begin(self, order: RebuildOrder, author: Author) -> dict[str, Any]:
        only = generations.tables_named(tuple(order.only))
        async with self._pool.acquire() as connection:
            generation = await lifecycle.begin(connection, self._ports, only, author)
        return {"generation": generation.number, "state": generation.state, "previous": None}

    async def _move(self, order: RebuildOrder, author: Author) -> dict[str, Any]:
        ports = self._ports
        async with self._pool.acquire() as connection:
            number = await rollback_target(connection) if order.rollback else order.apply or 0
            found = await generations.find(connection, number)
            if found.state == "building":
                raise InvalidTransition(f"generation {number} is being built")
        async with ports.open_log() as reader:
            action = ROLLBACK if order.rollback else APPLY
            moved = await flip(ports, reader, number, action, author, order.accept_loss)
        return {"generation": number, "state": "live", "previous": moved["previous"]}

    async def _make(self, moment: Moment, author: Author) -> web.Response:
        await self._scratches.start(moment, author)
        async with self._pool.acquire() as connection:
            made = [one for one in await snapshot.describe_all(connection) if one["name"] == moment.name]
        if not made:
            raise Unavailable(f"the state {moment.name} was begun, and failed at once; the console's log says why")
        begun = answer(made[0])
        begun.set_status(201)
        return begun

    async def _drop(self, which: str, author: Author) -> dict[str, Any]:
        async with self._pool.acquire() as connection:
            if which.isdecimal():
                await lifecycle.drop(connection, int(which), author)
            else:
                await snapshot.drop(connection, which, author)
        return {"dropped": which}
