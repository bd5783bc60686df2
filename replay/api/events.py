"""`GET /api/events` and `GET /api/events/{source}/{event_id}`. `replay.operations.events` decides what is shown."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import asyncpg
from aiohttp import web
from multidict import MultiMapping

from replay.api.requests import BOOLEANS, answer, parameters, time_of
from replay.log.reader import LogReader
from replay.operations.events import Reveal, Search, UnknownEvent, list_events, show_event
from replay.operations.sources import require_sources
from replay.selection.selection import page_limit, require_text
from schemas.errors import InvalidSelection

REASON_HEADER: Final = "X-Reason"
LOG_SECONDS: Final = 15.0

REVEAL: Final = frozenset({"reveal", "reason"})
_LIST: Final = frozenset({"source", "type", "status", "from", "to", "q", "limit", "cursor"}) | REVEAL


def event_routes(
    pool: "asyncpg.Pool[asyncpg.Record]",
    open_log: Callable[[], LogReader],
    who: Callable[[web.Request], str],
    configured: Callable[[], Collection[str]],
) -> list[web.RouteDef]:
    """For an application that has authenticated the request; `who` names the operator, `configured` the sources."""

    async def list_route(request: web.Request) -> web.Response:
        with _Problems():
            search, limit, cursor = parse_search(request.query)
            reveal = reveal_of(request, request.query, who)
            async with pool.acquire() as connection:
                if search.source is not None:
                    await require_sources(connection, [search.source], configured())
                page = await list_events(connection, search, limit, cursor, reveal)
        return answer({"redacted": reveal is None, "events": page.events, "cursor": page.cursor})

    async def show_route(request: web.Request) -> web.Response:
        with _Problems():
            reveal = reveal_of(request, parameters(request.query, REVEAL), who)
            source, event_id = request.match_info["source"], request.match_info["event_id"]
            async with pool.acquire() as connection, asyncio.timeout(LOG_SECONDS):
                return answer(await show_event(connection, open_log, source, event_id, reveal))

    return [
        web.get("/api/events", list_route),
        # A dead record without an id of its own is indexed under its location, slashes and all.
        web.get("/api/events/{source}/{event_id:.+}", show_route),
    ]


class _Problems:
    """Our errors as the console's problems."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, InvalidSelection):
            raise web.HTTPBadRequest(reason="invalid selection", text=str(error)) from error
        if isinstance(error, UnknownEvent):
            raise web.HTTPNotFound(reason="not found", text=str(error)) from error
        if isinstance(error, TimeoutError):
            text = f"Kafka and Postgres did not answer within {LOG_SECONDS:.0f} s."
            raise web.HTTPServiceUnavailable(reason="unavailable", text=text) from error


def parse_search(query: MultiMapping[str]) -> tuple[Search, int, str | None]:
    """(search, limit, cursor) of a list's parameters. Raises `InvalidSelection`."""
    parameters(query, _LIST)
    search = Search(
        source=query.get("source"),
        type_glob=query.get("type"),
        status=query.get("status"),
        from_ms=time_of(query, "from"),
        to_ms=time_of(query, "to"),
        q=query.get("q"),
    )
    return search, page_limit(query.get("limit")), query.get("cursor")


def reveal_of(request: web.Request, query: MultiMapping[str], who: Callable[[web.Request], str]) -> Reveal | None:
    """None unless it is asked for. Raises `InvalidSelection`."""
    asked = BOOLEANS.get(query.get("reveal", "").lower())
    if asked is None:
        raise InvalidSelection("reveal is true or false")
    reason = query.get("reason") or request.headers.get(REASON_HEADER) or None
    operator = who(request)
    for text in (reason, operator):
        require_text(text)
    return Reveal(operator, reason) if asked else None
