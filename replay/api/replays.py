"""Replays over HTTP: planned here, and run by whoever runs the ledger's replays."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg
from aiohttp import web
from aiokafka.errors import KafkaError

from replay.api.operations import Operations
from replay.api.requests import answer, author_of, document_of, flag_of, parameters
from replay.jobs import ledger
from replay.jobs.dry_run import dry_run
from replay.jobs.ledger import Order, UnknownReplay
from replay.jobs.outcomes import list_outcomes
from replay.jobs.plan import Plan, make_plan
from replay.log.pacing import require_rate
from replay.log.reader import LogReader
from replay.ports import Connection, RequireTarget
from replay.selection.document import FIELDS, parse_selection, sources_of_log
from replay.selection.selection import Selection, page_limit
from replay.tables.folding import LiveFolding
from schemas.errors import InvalidSelection, Unavailable
from schemas.masking import describe

F = TypeVar("F")
MAX_PLANNING: Final = 2
"""Plans under way at once: each reads its window."""

_ORDER: Final = frozenset({"selection", "reason", "dry_run", "diff", "rate", "target"})
_LIST: Final = frozenset({"limit"})
_OUTCOMES: Final = frozenset({"outcome", "limit", "cursor"})


@dataclass(frozen=True, slots=True)
class Replays:
    """What the routes need of others, besides what all operations need."""

    operations: Operations
    open_reader: Callable[[], LogReader]
    require_target: RequireTarget
    planning: asyncio.Semaphore

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/replays", self._create),
            web.get("/api/replays", self._list),
            web.get("/api/replays/{id}", self._show),
            web.get("/api/replays/{id}/outcomes", self._outcomes),
            web.post("/api/replays/{id}/{verb}", self._change),
        ]

    @property
    def _pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        return self.operations.pool

    async def _create(self, request: web.Request) -> web.Response:
        """The fields of a selection may stand in the order itself, or in `selection`."""
        body = await document_of(request)
        if unknown := sorted(set(body) - _ORDER - FIELDS):
            raise InvalidSelection(f"{', '.join(unknown)[:200]} is no field of a replay")
        fields = {name: value for name, value in body.items() if name in FIELDS}
        document = body.get("selection", fields)
        if not isinstance(document, dict) or (fields and document is not fields):
            raise InvalidSelection("give the selection's fields in `selection`, or all of them beside it")
        selection = parse_selection(document, sources_of_log(self.operations.sources()))
        is_dry, rate = flag_of(body, "dry_run"), _rate(body.get("rate"))
        has_diff, author = flag_of(body, "diff"), author_of(request, body, self.operations.operator)
        if has_diff and (not is_dry or body.get("target") is not None):
            raise InvalidSelection("diff goes with dry_run, and without a target: it is about the tables")
        if not is_dry and not author.reason:
            raise InvalidSelection("a reason is needed: it goes into the ledger and the audit")
        target = await self.require_target(body.get("target"))
        async with self.planning, self._pool.acquire() as connection:
            plan, generation = await self._plan(connection, selection)
            if is_dry:
                diff = {"diff": await self._foreseen(connection, plan)} if has_diff else {}
                return answer({**plan.as_document(), **diff, "target": target, "dry_run": True})
            replay = await ledger.create(connection, Order(plan, generation, author, rate, target))
            entry = await ledger.show_replay(connection, replay)
        created = answer(entry)
        created.set_status(201)
        created.headers["Location"] = f"/api/replays/{replay}"
        return created

    async def _plan(self, connection: Connection, selection: Selection) -> tuple[Plan, int]:
        folding = await LiveFolding.open(connection)
        try:
            async with self.open_reader() as reader:
                plan = await make_plan(reader, connection, selection, folding.fold, lambda *_: None)
        except KafkaError as error:
            raise Unavailable(f"the log can't be read: {describe(error)}") from error
        return plan, folding.generation

    async def _foreseen(self, connection: Connection, plan: Plan) -> dict[str, Any]:
        try:
            async with self.open_reader() as reader:
                return (await dry_run(reader, connection, plan, lambda _: None)).as_document()
        except KafkaError as error:
            raise Unavailable(f"the log can't be read: {describe(error)}") from error

    async def _list(self, request: web.Request) -> web.Response:
        limit = page_limit(parameters(request.query, _LIST).get("limit"))
        async with self._pool.acquire() as connection:
            return answer({"replays": await ledger.list_replays(connection, limit)})

    async def _show(self, request: web.Request) -> web.Response:
        async with self._pool.acquire() as connection:
            return answer(await _found(ledger.show_replay(connection, await _id(connection, request))))

    async def _outcomes(self, request: web.Request) -> web.Response:
        """What became of its records at the target."""
        query = parameters(request.query, _OUTCOMES)
        limit = page_limit(query.get("limit"))
        async with self._pool.acquire() as connection:
            replay = await _id(connection, request)
            found, cursor = await list_outcomes(connection, replay, query.get("outcome"), query.get("cursor"), limit)
        return answer({"outcomes": found, "cursor": cursor})

    async def _change(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        if verb not in ledger.VERBS:
            raise web.HTTPNotFound(reason="not found")
        author = author_of(request, await document_of(request), self.operations.operator)
        async with self._pool.acquire() as connection:
            replay = await _id(connection, request)
            return answer(await _found(ledger.change(connection, replay, verb, author)))


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidSelection("rate is a number of records a second, above 0")
    return require_rate(float(value))


async def _id(connection: Connection, request: web.Request) -> uuid.UUID:
    """Of the replay whose id is in the path, or begins so."""
    return await _found(ledger.find_replay(connection, request.match_info["id"]))


async def _found(asked: Awaitable[F]) -> F:
    try:
        return await asked
    except UnknownReplay as error:
        raise web.HTTPNotFound(reason="not found", text=str(error)) from error
