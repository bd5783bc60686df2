"""`GET /api/events` and `GET /api/events/{source}/{event_id}`. `replay.operations.events` decides what is shown."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from aiohttp import web
from pydantic import Field

from replay.api.documents import Events, EventStatus, ShownEvent
from replay.api.fields import Nothing, Paged, Parameters, Revealing, Text, Window
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.log.reader import LogReader
from replay.operations.events import Reveal, Search, list_events, show_event
from replay.operations.sources import require_sources
from replay.selection.selection import require_text
from schemas.errors import Unavailable

REASON_HEADER: Final = "X-Reason"
LOG_SECONDS: Final = 15.0


class EventQuery(Paged, Window, Revealing):
    """A search of the index."""

    source: Text | None = None
    """One source."""
    type: Text | None = None
    """A glob: `stripe.invoice.*`."""
    status: EventStatus | None = None
    """The outcome."""
    q: Text | None = None
    """Contained in the event id, the type or the error."""

    def search(self) -> Search:
        """Raises `InvalidSelection`."""
        return Search(self.source, self.type, self.status, self.from_ms, self.to_ms, self.q)


class EventPath(Parameters):
    """An event."""

    source: str
    """The name of a source."""
    event_id: str = Field(min_length=1)
    """Its `%` is `%25` in a URL."""


LIST: Final = Route("get", "/api/events", "Search the index", Nothing, EventQuery, {200: Events})
# A dead record without an id of its own is indexed under its location, slashes and all.
SHOW: Final = Route(
    "get",
    "/api/events/{source}/{event_id:.+}",
    "One event, with its record",
    EventPath,
    Revealing,
    {200: ShownEvent},
    ("not_found",),
)


def event_routes(
    pool: "asyncpg.Pool[asyncpg.Record]", open_log: Callable[[], LogReader], configured: Callable[[], Collection[str]]
) -> list[Endpoint]:
    """`configured`: the sources of today."""

    async def list_all(call: RouteCall[Nothing, EventQuery]) -> web.Response:
        query, reveal = call.given, reveal_of(call)
        async with pool.acquire() as connection:
            if query.source is not None:
                await require_sources(connection, [query.source], configured())
            page = await list_events(connection, query.search(), query.limit, query.cursor, reveal)
        return answer({"redacted": reveal is None, "events": page.events, "cursor": page.cursor})

    async def show(call: RouteCall[EventPath, Revealing]) -> web.Response:
        reveal, path = reveal_of(call), call.path
        async with answering(), pool.acquire() as connection:
            return answer(await show_event(connection, open_log, path.source, path.event_id, reveal))

    return [LIST.to(list_all), SHOW.to(show)]


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """A look at the log. Raises `Unavailable` if it takes too long."""
    try:
        async with asyncio.timeout(LOG_SECONDS):
            yield
    except TimeoutError as error:
        raise Unavailable(f"Kafka and Postgres did not answer within {LOG_SECONDS:.0f} s") from error


def reveal_of(call: RouteCall[Any, Any]) -> Reveal | None:
    """None unless it is asked for. Raises `InvalidSelection`."""
    reason = call.given.reason or call.request.headers.get(REASON_HEADER) or None
    require_text(reason)
    operator = call.operator
    return Reveal(operator, reason) if call.given.reveal else None
