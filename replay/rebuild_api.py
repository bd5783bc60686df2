"""`GET` and `POST /api/rebuilds`. What they do is in the modules they call; the follower folds what is begun here."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from replay import generations, lifecycle, scratch
from replay.audit import Author
from replay.faults import first_fault
from replay.flip import APPLY, ROLLBACK, flip, require_whole, rollback_target
from replay.generations import Ports
from replay.requests import answer, document_of
from replay.selection import MAX_TEXT, require_text
from schemas.errors import InvalidSelection, InvalidTransition, Misconfigured
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
    """Fold a new generation (of `only` some tables), or `apply` one that is ready, or `rollback`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    reason: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    only: list[str] = []
    apply: int | None = Field(None, gt=0, lt=2**31)
    accept_loss: bool = False
    rollback: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> "RebuildOrder":
        """Raises `InvalidSelection`."""
        try:
            order = cls.model_validate(body)
        except ValidationError as error:
            raise InvalidSelection(first_fault(error)) from error
        require_text(order.reason)
        if sum((bool(order.only), order.apply is not None, order.rollback)) > 1:
            raise InvalidSelection("only, apply and rollback are three orders: send one")
        return order


class Rebuilt(Document):
    generation: int
    state: Literal["live", "building"]
    previous: int | None


def rebuild_routes(ports: Ports, who: Callable[[web.Request], str]) -> list[web.RouteDef]:
    """Routes for an application that has authenticated the request; `who` names the operator."""

    async def list_route(_: web.Request) -> web.Response:
        async with ports.pool.acquire() as connection:
            return answer(
                {
                    "generations": await generations.describe_all(connection),
                    "scratches": await scratch.describe_all(connection),
                }
            )

    async def order_route(request: web.Request) -> web.Response:
        order = RebuildOrder.of(await document_of(request))
        author = Author(who(request), order.reason)
        try:
            if order.apply is None and not order.rollback:
                return answer(await _begin(ports, order, author))
            return answer(await move(order, author))
        except Misconfigured as error:
            raise InvalidTransition(str(error)) from error

    async def move(order: RebuildOrder, author: Author) -> dict[str, Any]:
        async with ports.pool.acquire() as connection:
            number = await rollback_target(connection) if order.rollback else order.apply or 0
            found = await generations.find(connection, number)
            if found.state == "building":
                raise InvalidTransition(f"generation {number} is being built")
            if await generations.is_beyond(connection, number, ports.code):
                raise InvalidTransition(f"generation {number} was folded by newer code than this")
            if not order.rollback and not order.accept_loss:
                await require_whole(connection, number)
        async with ports.open_log() as reader:
            action = ROLLBACK if order.rollback else APPLY
            moved = await flip(ports, reader, number, action, author)
        return {"generation": number, "state": "live", "previous": moved["previous"]}

    return [web.get("/api/rebuilds", list_route), web.post("/api/rebuilds", order_route)]


async def _begin(ports: Ports, order: RebuildOrder, author: Author) -> dict[str, Any]:
    only = generations.tables_named(tuple(order.only))
    async with ports.pool.acquire() as connection:
        generation = await lifecycle.begin(connection, ports, only, author)
    return {"generation": generation.number, "state": generation.state, "previous": None}
