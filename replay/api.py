"""The operators' HTTP service. This first cut shows what the tables hold; the key guards everything but health."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final, LiteralString

import asyncpg
import orjson
from aiohttp import web
from pydantic import SecretStr

from replay.console.page import render_login, render_overview
from replay.openapi import description
from replay.operations import Operations
from schemas.errors import InvalidSelection, InvalidTransition, Unavailable

KEY_HEADER: Final = "X-Admin-API-Key"
COOKIE: Final = "redrive_session"
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_COUNTS: Final[LiteralString] = """
    SELECT source, provider, type, status, count(*) AS events, max(received_at) AS last_received_at
    FROM redrive.event_index GROUP BY source, provider, type, status ORDER BY source, type, status
"""
_POSITIONS: Final[LiteralString] = """
    SELECT topic, sum(next_offset)::bigint AS records
    FROM redrive.positions WHERE generation = (SELECT live FROM redrive.generation) GROUP BY topic ORDER BY topic
"""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_console(
    pool: "asyncpg.Pool[asyncpg.Record]", admin_api_key: SecretStr | None, operations: Operations
) -> web.Application:
    """Everything but the routes of single events. Without a key no operator API runs: all but health answers 401."""

    key = admin_api_key.get_secret_value() if admin_api_key else ""
    session = hmac.digest(key.encode(), b"redrive console session", "sha256").hex()

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        presented = (request.headers.get(KEY_HEADER, ""), request.cookies.get(COOKIE, ""))
        is_known = bool(key) and (_equal(presented[0], key) or _equal(presented[1], session))
        if not is_known and request.path == "/" and key:
            return web.Response(text=render_login(False), content_type="text/html", status=401, headers=_PAGE_HEADERS)
        if not is_known and request.path != "/login":
            return _problem(401, "unauthorized", f"Send the ADMIN_API_KEY in {KEY_HEADER}, or log in at /.")
        try:
            return await handler(request)
        except web.HTTPException as error:
            code, generic = (error.reason or "error").lower().replace(" ", "_"), f"{error.status}: {error.reason}"
            return _problem(error.status, code, (error.reason if error.text == generic else error.text) or "")
        except InvalidSelection as error:
            return _problem(400, error.code, str(error))
        except InvalidTransition as error:
            return _problem(409, error.code, str(error))
        except Unavailable as error:
            return _problem(503, error.code, str(error))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return _problem(503, "database_unavailable", "Postgres does not answer.")

    async def login(request: web.Request) -> web.Response:
        """The key for a cookie that is derived from it, so that no session has to be kept."""
        form = await request.post()
        if not key or not _equal(str(form.get("key", "")), key):
            return web.Response(text=render_login(True), content_type="text/html", status=401, headers=_PAGE_HEADERS)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(COOKIE, session, httponly=True, samesite="Strict", max_age=12 * 3600)
        return response

    async def overview(_: web.Request) -> web.Response:
        counts, positions = await _read()
        page = render_overview(sorted(operations.sources()), counts, positions)
        return web.Response(text=page, content_type="text/html", headers=_PAGE_HEADERS)

    async def list_sources(_: web.Request) -> web.Response:
        counts, _positions = await _read()
        found: dict[str, dict[str, Any]] = {one["source"]: {**one, "events": {}} for one in await operations.states()}
        for row in counts:
            entry = found.setdefault(row["source"], {"source": row["source"], "events": {}})
            by_status = entry["events"]
            by_status[row["status"]] = by_status.get(row["status"], 0) + row["events"]
        return web.Response(body=orjson.dumps({"sources": list(found.values())}), content_type="application/json")

    async def _read() -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
        async with pool.acquire() as connection:
            return await connection.fetch(_COUNTS), await connection.fetch(_POSITIONS)

    async def describe(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(description(KEY_HEADER)), content_type="application/json")

    app = web.Application(middlewares=[authenticate])
    app.add_routes([web.get("/", overview), web.post("/login", login), web.get("/api/sources", list_sources)])
    app.add_routes([web.get("/openapi.json", describe)])
    app.add_routes(operations.routes())
    return app


_PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _equal(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "replace"), expected.encode())


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = {
        "type": "about:blank",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
    }
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/problem+json")
