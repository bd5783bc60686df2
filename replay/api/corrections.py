"""`POST /api/corrections`. What a correction is, and how it is made, is in `replay.operations.corrections`."""

from collections.abc import Callable

import asyncpg
from aiohttp import web

from replay.api.requests import answer
from replay.operations.corrections import Desk, correct, parse_order


def correction_routes(
    pool: "asyncpg.Pool[asyncpg.Record]", desk: Callable[[], Desk], who: Callable[[web.Request], str]
) -> list[web.RouteDef]:
    """Routes for an application that has authenticated the request; `who` names the operator."""

    async def correct_route(request: web.Request) -> web.Response:
        order, operator = parse_order(await request.read()), who(request)
        async with pool.acquire() as connection:
            done = await correct(connection, desk(), order, operator)
        return answer({**done._asdict(), "dry_run": order.dry_run})

    return [web.post("/api/corrections", correct_route)]
