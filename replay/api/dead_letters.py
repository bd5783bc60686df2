"""`GET /api/dead-letters` and `POST /api/dead-letters/requeue`."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, Final

import asyncpg
from aiohttp import web

from replay.api.requests import BOOLEANS, answer, author_of, document_of, flag_of, parameters, time_of
from replay.audit import Author
from replay.operations.dead_letters import DeadLetters, list_dead_letters, parse_location
from replay.operations.requeue import Requeued
from replay.operations.sources import require_sources
from replay.ports import Connection
from replay.selection.selection import page_limit
from schemas.errors import InvalidSelection

_LIST: Final = frozenset({"source", "reason", "from", "to", "all", "limit", "cursor"})
_REQUEUE: Final = frozenset({"source", "dead_reason", "from", "to", "locations", "all", "dry_run", "reason"})

Requeueing = Callable[[Connection, DeadLetters, Author | None], Awaitable[Requeued]]
"""(connection, which, who and why; None: a dry run)."""


def dead_letter_routes(
    pool: "asyncpg.Pool[asyncpg.Record]",
    requeue: Requeueing,
    operator: str,
    configured: Callable[[], Collection[str]],
) -> list[web.RouteDef]:
    """Routes for an application that has authenticated the request; `operator`: where a request does not say."""

    async def list_route(request: web.Request) -> web.Response:
        query = parameters(request.query, _LIST)
        is_all = BOOLEANS.get(query.get("all", "").lower())
        if is_all is None:
            raise InvalidSelection("all is true or false")
        sources = (query["source"],) if "source" in query else None
        wanted = DeadLetters(sources, query.get("reason"), time_of(query, "from"), time_of(query, "to"))
        limit, cursor = page_limit(query.get("limit")), query.get("cursor")
        async with pool.acquire() as connection:
            await require_sources(connection, wanted.sources or (), configured())
            found, following = await list_dead_letters(connection, wanted, is_all, limit, cursor)
        return answer({"dead_letters": found, "cursor": following})

    async def requeue_route(request: web.Request) -> web.Response:
        body = await document_of(request)
        if unknown := sorted(set(body) - _REQUEUE):
            raise InvalidSelection(f"{unknown[0][:40]!r} is nothing that is known: {', '.join(sorted(_REQUEUE))}")
        wanted, is_dry = _wanted(body), flag_of(body, "dry_run")
        author = author_of(request, body, operator)
        async with pool.acquire() as connection:
            await require_sources(connection, wanted.sources or (), configured())
            done = await requeue(connection, wanted, None if is_dry else author)
        return answer({**asdict(done), "dry_run": is_dry})

    return [web.get("/api/dead-letters", list_route), web.post("/api/dead-letters/requeue", requeue_route)]


def _wanted(body: Mapping[str, Any]) -> DeadLetters:
    """Raises `InvalidSelection`, also where nothing is named and `all` is not said."""
    locations, reason = _texts(body, "locations"), body.get("dead_reason")
    if reason is not None and not isinstance(reason, str):
        raise InvalidSelection("dead_reason is a text")
    wanted = DeadLetters(
        sources=_texts(body, "source"),
        reason=reason,
        from_ms=time_of(body, "from"),
        to_ms=time_of(body, "to"),
        locations=None if locations is None else tuple(parse_location(text) for text in locations),
    )
    if wanted.is_any != flag_of(body, "all"):
        raise InvalidSelection("name a source, a dead_reason, a window or locations; or all, and then nothing else")
    return wanted


def _texts(body: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """A text, or a list of them."""
    found = body.get(name)
    values = [found] if isinstance(found, str) else found
    if values is None:
        return None
    if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
        raise InvalidSelection(f"{name} must be a text or a list of texts")
    return tuple(values)
