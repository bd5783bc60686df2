"""`GET /api/dead-letters` and `POST /api/dead-letters/requeue`."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict
from typing import Final

import asyncpg
from aiohttp import web
from pydantic import Field

from replay.api.documents import DeadLetterList, RequeueDone
from replay.api.fields import Flag, Nothing, Paged, Reasoned, Text, Texts, Timestamp, Window
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.audit import Author
from replay.operations.dead_letters import DeadLetterFilter, list_dead_letters, parse_location
from replay.operations.requeue import Requeued
from replay.operations.sources import require_sources
from replay.ports import Connection
from schemas.errors import InvalidSelection

Requeueing = Callable[[Connection, DeadLetterFilter, Author | None], Awaitable[Requeued]]
"""(connection, which, who and why; None: a dry run)."""


class DeadLetterQuery(Paged, Window):
    """A list of dead letters."""

    source: Text | None = None
    """One source."""
    reason: Text | None = None
    """Why it is dead."""
    all: Flag = False
    """Also the revived ones."""

    def wanted(self) -> DeadLetterFilter:
        """Raises `InvalidSelection`."""
        return DeadLetterFilter(None if self.source is None else (self.source,), self.reason, self.from_ms, self.to_ms)


class RequeueOrder(Reasoned):
    """At least one filter, or `all` and no filter. `dead_reason` is why they are dead, `reason` why they are folded
    again.
    """

    source: Texts | None = None
    dead_reason: Text | None = None
    from_ms: Timestamp | None = Field(None, alias="from")
    to_ms: Timestamp | None = Field(None, alias="to")
    locations: Texts | None = None
    all: bool = False
    dry_run: bool = False

    def wanted(self) -> DeadLetterFilter:
        """Raises `InvalidSelection`."""
        found = DeadLetterFilter(
            sources=None if self.source is None else tuple(self.source),
            reason=self.dead_reason,
            from_ms=self.from_ms,
            to_ms=self.to_ms,
            locations=None if self.locations is None else tuple(parse_location(text) for text in self.locations),
        )
        if found.is_any != self.all:
            raise InvalidSelection("name a source, a dead_reason, a window or locations; or pass all, and no filter")
        return found


LIST: Final = Route(
    "get",
    "/api/dead-letters",
    "Records that no projection could apply",
    Nothing,
    DeadLetterQuery,
    {200: DeadLetterList},
)
REQUEUE: Final = Route(
    "post",
    "/api/dead-letters/requeue",
    "Fold dead letters again",
    Nothing,
    RequeueOrder,
    {200: RequeueDone},
)


def dead_letter_routes(
    pool: "asyncpg.Pool[asyncpg.Record]", requeue: Requeueing, configured: Callable[[], Collection[str]]
) -> list[Endpoint]:
    """`configured`: the sources of today."""

    async def list_all(call: RouteCall[Nothing, DeadLetterQuery]) -> web.Response:
        query, wanted = call.given, call.given.wanted()
        async with pool.acquire() as connection:
            await require_sources(connection, wanted.sources or (), configured())
            found, following = await list_dead_letters(connection, wanted, query.all, query.limit, query.cursor)
        return answer({"dead_letters": found, "cursor": following})

    async def requeue_all(call: RouteCall[Nothing, RequeueOrder]) -> web.Response:
        order, wanted, author = call.given, call.given.wanted(), call.author(call.given.reason)
        async with pool.acquire() as connection:
            await require_sources(connection, wanted.sources or (), configured())
            done = await requeue(connection, wanted, None if order.dry_run else author)
        return answer({**asdict(done), "dry_run": order.dry_run})

    return [LIST.to(list_all), REQUEUE.to(requeue_all)]
