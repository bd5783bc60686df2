"""`GET /api/quarantine`, `GET /api/quarantine/{partition}/{offset}` and `POST /api/quarantine/release`."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Final

import asyncpg
from aiohttp import web

from replay.api.events import LOG_SECONDS, REVEAL, reveal_of
from replay.api.requests import answer, author_of, document_of, flag_of, operator_of, parameters, time_of
from replay.operations.quarantine import Quarantine, UnknownDelivery, of_source
from replay.operations.release import Order, Wanted, release
from replay.operations.sources import UnknownSource
from replay.ports import Append, Connection
from replay.selection.selection import parse_number
from schemas.errors import InvalidSelection, Unavailable
from schemas.settings import Source

_LIST: Final = frozenset({"source", "from", "to"})
_RELEASE: Final = frozenset({"source", "clock_off_seconds", "dry_run", "reason"})
_LAST_PARTITION: Final = 2**31 - 1
_LAST_OFFSET: Final = 2**63 - 2


@dataclass(frozen=True, slots=True)
class QuarantineDoors:
    """To read it, and to append what is released. Both raise `Unavailable`."""

    open: Callable[[Connection], AbstractAsyncContextManager[Quarantine]]
    appending: Callable[[], AbstractAsyncContextManager[Append]]


def quarantine_routes(
    pool: "asyncpg.Pool[asyncpg.Record]",
    doors: QuarantineDoors,
    sources: Callable[[], Mapping[str, Source]],
    operator: str,
) -> list[web.RouteDef]:
    """Routes for an application that has authenticated the request; `operator`: where a request does not say."""

    async def list_route(request: web.Request) -> web.Response:
        query = parameters(request.query, _LIST)
        window = (time_of(query, "from"), time_of(query, "to"))
        async with pool.acquire() as connection, doors.open(connection) as quarantine:
            found = await quarantine.holdings(_unheard, *window)
        wanted = query.get("source")
        if wanted is not None:
            found = of_source(found, wanted, sources())
        return answer({"sources": {name: one.as_document() for name, one in found.items()}})

    async def show_route(request: web.Request) -> web.Response:
        query = parameters(request.query, REVEAL)
        reveal = reveal_of(request, query, lambda asked: operator_of(asked, operator))
        place = _number(request, "partition", _LAST_PARTITION), _number(request, "offset", _LAST_OFFSET)
        try:
            async with asyncio.timeout(LOG_SECONDS), pool.acquire() as connection, doors.open(connection) as quarantine:
                return answer(await quarantine.show(*place, reveal))
        except UnknownDelivery as error:
            raise web.HTTPNotFound(reason="not found", text=str(error)) from error
        except TimeoutError as error:
            raise Unavailable(f"Kafka and Postgres did not answer within {LOG_SECONDS:.0f} s") from error

    async def release_route(request: web.Request) -> web.Response:
        body = await document_of(request)
        wanted, is_dry = _wanted(body, sources()), flag_of(body, "dry_run")
        author = author_of(request, body, operator)
        async with pool.acquire() as connection, doors.open(connection) as quarantine:
            if is_dry:
                done = await release(quarantine, wanted, None, _unheard)
            else:
                async with doors.appending() as append:
                    done = await release(quarantine, wanted, Order(author, append), _unheard)
        return answer({**asdict(done), "dry_run": is_dry})

    return [
        web.get("/api/quarantine", list_route),
        web.get("/api/quarantine/{partition}/{offset}", show_route),
        web.post("/api/quarantine/release", release_route),
    ]


def _number(request: web.Request, name: str, last: int) -> int:
    found = parse_number(request.match_info[name], last)
    if found is None:
        raise InvalidSelection(f"{name} is a number from 0 to {last}")
    return found


def _wanted(body: Mapping[str, Any], sources: Mapping[str, Source]) -> Wanted:
    """Raises `InvalidSelection`."""
    if unknown := sorted(set(body) - _RELEASE):
        raise InvalidSelection(f"{unknown[0][:40]!r} is nothing that is known: {', '.join(sorted(_RELEASE))}")
    source = body.get("source")
    names = [source] if isinstance(source, str) else source
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidSelection("source must be a name or a list of names")
    for name in names:
        if name not in sources:
            raise UnknownSource(f"No source is called {name!r}.")
    off = body.get("clock_off_seconds", 0)
    if isinstance(off, bool) or not isinstance(off, (int, float)):
        raise InvalidSelection("clock_off_seconds is a number: how far our clock stood ahead; negative: behind")
    return Wanted(names, off)


def _unheard(_: int) -> None:
    """Nobody watches the progress of a request."""
