"""The operators' HTTP service: the key guards everything but health, and every refusal is a problem."""

from typing import Any, Final, LiteralString

import asyncpg
from aiohttp import web
from pydantic import SecretStr

from replay import metrics
from replay.api.authentication import KEY_HEADER, SECONDS_PER_KEY, Authentication, CrossSite, Handler, Throttled
from replay.api.documents import Sources
from replay.api.encodings import field_of, require_readable
from replay.api.fields import Nothing
from replay.api.headers import page, protect
from replay.api.operations import Operations
from replay.api.problems import problem, problem_of
from replay.api.route import ALWAYS, OPERATIONS, OPERATOR, Endpoint, Route, RouteCall, answer, register
from replay.console.page import render_login, render_overview
from replay.operations.sources import UnknownSource
from schemas import openapi
from schemas.errors import (
    OPERATOR_PROBLEMS,
    InvalidSelection,
    InvalidTransition,
    Locked,
    NotFound,
    OverlappingReplay,
    Unavailable,
    UnreadableRecord,
)
from schemas.masking import describe
from schemas.openapi import HEALTH, Description, Operation, ResponseBody

MAX_BODY_BYTES: Final = 64 * 1024
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_COUNT_EVENTS: Final[LiteralString] = """
    SELECT source, provider, type, status, count(*) AS events, max(received_at) AS last_received_at
    FROM redrive.event_index GROUP BY source, provider, type, status ORDER BY source, type, status
"""
_COUNT_FOLDED: Final[LiteralString] = """
    SELECT topic, sum(next_offset)::bigint AS records
    FROM redrive.positions WHERE generation = (SELECT live FROM redrive.generation) GROUP BY topic ORDER BY topic
"""
_PAGE: Final = ResponseBody("A page for people.", media_type="text/html")
_OVERVIEW: Final = Operation("get", "/", "The console", {200: [_PAGE], 401: [_PAGE]}, ALWAYS, is_open=False)
_LOGIN: Final = Operation(
    "post",
    "/login",
    "The key for a cookie",
    {303: [ResponseBody("Logged in.", media_type="text/plain")], 401: [_PAGE], 429: [_PAGE]},
    ("bad_request", "request_entity_too_large"),
    body=("application/x-www-form-urlencoded",),
)
_DESCRIBE: Final = Operation(
    "get",
    "/openapi.json",
    "This description",
    {200: [ResponseBody("This description", Description)]},
    ALWAYS,
    is_open=False,
)
_SOURCES: Final = Route("get", "/api/sources", "Every source and its state", Nothing, Nothing, {200: Sources})


def create_console(
    pool: "asyncpg.Pool[asyncpg.Record]", admin_api_key: SecretStr | None, operations: Operations
) -> web.Application:
    """Everything but the routes of single events. Without a key no operator API runs: all but health answers 401."""

    authentication = Authentication(admin_api_key)

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        try:
            is_known = request.path == "/login" or authentication.knows(request)
        except Throttled:
            return _too_many_keys()
        except CrossSite:
            return problem(403, "cross_site", "Another site sent this request with the session of your browser.")
        if not is_known:
            if request.path == "/" and authentication.is_open:
                return page(render_login(), 401)
            return problem(401, "unauthorized", f"Send the ADMIN_API_KEY in {KEY_HEADER}, or log in at /.")
        try:
            return await handler(request)
        except UnknownSource as error:
            return problem(404, "unknown_source", str(error))
        except InvalidSelection as error:
            return problem(400, error.code, str(error))
        except NotFound as error:
            return problem(404, error.code, str(error))
        except (InvalidTransition, OverlappingReplay, UnreadableRecord) as error:
            return problem(409, error.code, str(error))
        except Unavailable as error:
            return problem(503, error.code, str(error))
        except asyncpg.LockNotAvailableError:
            return problem(503, Locked.code, f"{Locked()}")
        except asyncpg.DataError as error:
            return problem(400, "invalid_selection", describe(error))
        except asyncpg.ReadOnlySQLTransactionError:
            return problem(503, "database_unavailable", "Postgres takes no writes now: it is read-only.")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return problem(503, "database_unavailable", "Postgres does not answer.")

    async def login(request: web.Request) -> web.Response:
        """The key for a session."""
        presented = await field_of(request, "key")
        try:
            if not authentication.is_key(request, presented):
                return page(render_login("That is not the key."), 401)
        except Throttled:
            return _too_many_keys(page(render_login("Too many wrong keys: wait a minute."), 429))
        response = web.Response(status=303, headers={"Location": "/"})
        authentication.start_session(request, response)
        return response

    async def overview(_: web.Request) -> web.Response:
        counts, positions = await _read()
        return page(render_overview(sorted(operations.sources()), counts, positions))

    async def list_sources(_: RouteCall[Nothing, Nothing]) -> web.Response:
        counts, _positions = await _read()
        found: dict[str, dict[str, Any]] = {one["source"]: {**one, "events": {}} for one in await operations.states()}
        for row in counts:
            entry = found.setdefault(row["source"], {"source": row["source"], "events": {}})
            by_status = entry["events"]
            by_status[row["status"]] = by_status.get(row["status"], 0) + row["events"]
        return answer({"sources": list(found.values())})

    async def _read() -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
        async with pool.acquire() as connection:
            return await connection.fetch(_COUNT_EVENTS), await connection.fetch(_COUNT_FOLDED)

    async def describe_api(_: web.Request) -> web.Response:
        return answer(describe_console(app))

    app = web.Application(middlewares=[_answer_failures, authenticate], client_max_size=MAX_BODY_BYTES)
    app[OPERATIONS], app[OPERATOR] = [], operations.operator
    app.on_response_prepare.append(protect)
    register(app, [Endpoint("/", _OVERVIEW, overview), Endpoint("/login", _LOGIN, login)])
    register(app, [Endpoint("/openapi.json", _DESCRIBE, describe_api), _SOURCES.to(list_sources)])
    register(app, operations.routes())
    return app


def describe_console(app: web.Application) -> dict[str, Any]:
    """OpenAPI of what it has registered, and of the pages of its health."""
    return openapi.describe("redrive: operators", [*app[OPERATIONS], *HEALTH], OPERATOR_PROBLEMS, KEY_HEADER)


def _too_many_keys(response: web.Response | None = None) -> web.Response:
    response = response or problem(429, "too_many_requests", "Too many wrong keys came from this address.")
    response.headers["Retry-After"] = str(SECONDS_PER_KEY)
    return response


@web.middleware
async def _answer_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost of a request: a refusal is a problem; what nobody expected is counted, logged and answered."""
    try:
        require_readable(request)
        return await handler(request)
    except web.HTTPException as error:
        return problem_of(error)
    except web.RequestPayloadError:
        return problem(400, "bad_request", "invalid body: it is not encoded as the headers of the request say")
    except Exception:  # noqa: BLE001 - the outermost of a request
        metrics.request_failed(request.method)
        return problem(500, "internal_error", "An error of ours; the console's log says more.")
