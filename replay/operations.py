"""The operators' actions over HTTP: sources, the quarantine, the audit. What they do is in the modules they call."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, LiteralString

import asyncpg
import orjson
from aiohttp import web

from replay import audit
from replay.ports import Connection
from replay.quarantine import Holdings, Release
from replay.selection import page_limit, parse_number
from replay.sources import VERBS, ControlTopic, change, describe
from schemas.errors import InvalidSelection
from schemas.settings import Source

OPERATOR_HEADER: Final = "X-Operator"
_AUDIT: Final[LiteralString] = """
    SELECT id, at, operator, action, reason, details FROM redrive.audit
    WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Operations:
    """What the routes need of others. `sources` are today's."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    sources: Callable[[], Mapping[str, Source]]
    control: ControlTopic
    holdings: Callable[[], Awaitable[dict[str, Holdings]]]
    release: Callable[[Connection, list[str], bool], Awaitable[Release]]
    """(connection, sources, dry run)."""
    operator: str
    """Who it was, where a request does not say."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/sources/{source}/{verb}", self._change_source),
            web.get("/api/quarantine", self._list_quarantine),
            web.post("/api/quarantine/release", self._release),
            web.get("/api/audit", self._list_audit),
        ]

    def who(self, request: web.Request) -> str:
        return request.headers.get(OPERATOR_HEADER, "").strip()[:100] or self.operator

    async def states(self) -> list[dict[str, Any]]:
        """Every source with its state."""
        said = await self.control.states()
        return [describe(source, said.get(source.name)) for source in self.sources().values()]

    async def _change_source(self, request: web.Request) -> web.Response:
        source, verb = request.match_info["source"], request.match_info["verb"]
        if verb not in VERBS:
            raise web.HTTPNotFound(reason="not found")
        self._require_source(source)
        body = await _document(request)
        async with self.pool.acquire() as connection:
            return _json(
                await change(connection, self.control, source, verb, self.who(request), _text(body.get("reason")))
            )

    async def _list_quarantine(self, request: web.Request) -> web.Response:
        found = await self.holdings()
        wanted = request.query.get("source")
        return _json({"sources": {name: one.as_document() for name, one in found.items() if wanted in (None, name)}})

    async def _release(self, request: web.Request) -> web.Response:
        body = await _document(request)
        source, is_dry = body.get("source"), body.get("dry_run", False)
        names = [source] if isinstance(source, str) else source
        if not isinstance(names, list) or not names or not isinstance(is_dry, bool):
            raise web.HTTPBadRequest(reason="invalid selection", text="source must be a name or a list of names")
        for name in names:
            self._require_source(name)
        async with self.pool.acquire() as connection:
            done = await self.release(connection, names, is_dry)
            if not is_dry:
                who, reason = self.who(request), _text(body.get("reason"))
                await audit.note(connection, who, "quarantine.release", reason, sources=names, **asdict(done))
        return _json({**asdict(done), "dry_run": is_dry})

    async def _list_audit(self, request: web.Request) -> web.Response:
        limit, text = page_limit(request.query.get("limit")), request.query.get("cursor")
        cursor = None if text is None else parse_number(text, 2**63 - 1)
        if text is not None and cursor is None:
            raise InvalidSelection("that is no cursor: give back the one that the page before came with")
        rows = await self.pool.fetch(_AUDIT, cursor, limit)
        found = [{**row, "details": orjson.loads(row["details"])} for row in rows]
        return _json({"audit": found, "cursor": found[-1]["id"] if len(found) == limit else None})

    def _require_source(self, name: Any) -> None:
        if not isinstance(name, str) or name not in self.sources():
            raise web.HTTPNotFound(reason="unknown source", text=f"No source is called {name!r}.")


async def _document(request: web.Request) -> dict[str, Any]:
    """The body, which may be left out."""
    raw = await request.read()
    try:
        found = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError as error:
        raise web.HTTPBadRequest(reason="invalid selection", text="The body is not JSON.") from error
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(reason="invalid selection", text="The body is not a JSON object.")
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body, default=str), content_type="application/json")
