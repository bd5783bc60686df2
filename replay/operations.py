"""The operators' actions over HTTP: sources, the quarantine, the audit. What they do is in the modules they call."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, LiteralString

import asyncpg
import orjson
from aiohttp import web

from replay.audit import Author
from replay.ports import Connection
from replay.quarantine import Holdings, Release
from replay.selection import page_limit, parse_number, require_text
from replay.sources import VERBS, Change, ControlTopic, UnknownSource, change, describe_all
from schemas.errors import InvalidSelection
from schemas.settings import Source

OPERATOR_HEADER: Final = "X-Operator"
_AUDIT: Final[LiteralString] = """
    SELECT id, at, operator, action, reason, details FROM redrive.audit
    WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2
"""
_LAST_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Operations:
    """What the routes need of others. `sources` are today's."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    sources: Callable[[], Mapping[str, Source]]
    control: ControlTopic
    holdings: Callable[[], Awaitable[dict[str, Holdings]]]
    release: Callable[[Connection, list[str], Author | None], Awaitable[Release]]
    """(connection, sources, who and why; None: a dry run)."""
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
        """Raises `InvalidSelection`."""
        said = request.headers.get(OPERATOR_HEADER, "").strip()[:100]
        require_text(said)
        return said or self.operator

    async def states(self) -> Sequence[dict[str, Any]]:
        """Every source with its state."""
        return describe_all(self.sources(), await self.control.states())

    async def _change_source(self, request: web.Request) -> web.Response:
        source, verb = request.match_info["source"], request.match_info["verb"]
        if verb not in VERBS:
            raise web.HTTPNotFound(reason="not found")
        wanted = Change(source, verb, self._author(request, await _document(request)))
        async with self.pool.acquire() as connection:
            return _json(await change(connection, self.control, self.sources(), wanted))

    async def _list_quarantine(self, request: web.Request) -> web.Response:
        found = await self.holdings()
        wanted = request.query.get("source")
        return _json({"sources": {name: one.as_document() for name, one in found.items() if wanted in (None, name)}})

    async def _release(self, request: web.Request) -> web.Response:
        body = await _document(request)
        source, is_dry = body.get("source"), body.get("dry_run", False)
        names = [source] if isinstance(source, str) else source
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InvalidSelection("source must be a name or a list of names")
        if not isinstance(is_dry, bool):
            raise InvalidSelection("dry_run is true or false")
        for name in names:
            if name not in self.sources():
                raise UnknownSource(f"No source is called {name!r}.")
        author = self._author(request, body)
        async with self.pool.acquire() as connection:
            done = await self.release(connection, names, None if is_dry else author)
        return _json({**asdict(done), "dry_run": is_dry})

    async def _list_audit(self, request: web.Request) -> web.Response:
        limit, cursor = page_limit(request.query.get("limit")), None
        if "cursor" in request.query:
            cursor = parse_number(request.query["cursor"], _LAST_ID)
            if cursor is None:
                raise InvalidSelection("that is no cursor: give back the one that the page before came with")
        rows = await self.pool.fetch(_AUDIT, cursor, limit + 1)
        found = [{**row, "details": orjson.loads(row["details"])} for row in rows[:limit]]
        return _json({"audit": found, "cursor": found[-1]["id"] if len(rows) > limit else None})

    def _author(self, request: web.Request, body: Mapping[str, Any]) -> Author:
        reason = body.get("reason")
        if reason is not None and not isinstance(reason, str):
            raise InvalidSelection("reason is a text")
        require_text(reason)
        return Author(self.who(request), reason or None)


async def _document(request: web.Request) -> dict[str, Any]:
    """The body, which may be left out."""
    raw = await request.read()
    try:
        found = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidSelection("The body is not JSON.") from error
    if not isinstance(found, dict):
        raise InvalidSelection("The body is not a JSON object.")
    return found


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body, default=str), content_type="application/json")
