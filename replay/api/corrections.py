"""`POST /api/corrections`. `replay.operations.corrections` makes the corrections."""

from collections.abc import Callable
from typing import Final

import asyncpg
from aiohttp import web

from replay.api.documents import CorrectionDone
from replay.api.fields import Nothing
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.operations.corrections import CorrectionOrder, Desk, correct

CORRECT: Final = Route(
    "post",
    "/api/corrections",
    "Correct credits, an account or a subscription",
    Nothing,
    CorrectionOrder,
    {200: CorrectionDone},
    ("append_in_doubt", "invalid_transition", "unknown_source"),
)


def correction_routes(pool: "asyncpg.Pool[asyncpg.Record]", desk: Callable[[], Desk]) -> list[Endpoint]:
    async def correct_one(call: RouteCall[Nothing, CorrectionOrder]) -> web.Response:
        order, operator = call.given, call.operator
        async with pool.acquire() as connection:
            done = await correct(connection, desk(), order, operator)
        return answer({**done._asdict(), "dry_run": order.dry_run})

    return [CORRECT.to(correct_one)]
