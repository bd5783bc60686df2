"""Replays over HTTP: planned here, and run by whoever runs the ledger's replays."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import asyncpg
from aiohttp import web
from aiokafka.errors import KafkaError
from pydantic import Field, model_validator

from replay.api.fields import Limit, Nothing, OrderDocument, Paged, Parameters, Reasoned, Text
from replay.api.operations import Operations
from replay.api.replay_documents import OutcomeList, ReplayList, ReplayPlan, ShownReplay
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.jobs import ledger
from replay.jobs.dry_run import dry_run
from replay.jobs.ledger import ReplayVerbName
from replay.jobs.outcomes import OutcomeName, list_outcomes
from replay.jobs.plan import Plan, make_plan
from replay.log.pacing import MAX_RATE
from replay.log.reader import LogReader
from replay.ports import Connection, RequireTarget
from replay.selection.selection import Selection, sources_of_log
from replay.tables.folding import LiveFolding
from replay.targets.document import Target
from schemas.errors import Unavailable
from schemas.masking import describe

MAX_PLANNING: Final = 2
"""Plans under way at once: each reads its window."""


class ReplayOrder(Selection):
    """The selection's fields, here or in `selection`; and what happens to it. Without a target: the projections."""

    model_config = OrderDocument.model_config

    selection: Selection | None = None
    reason: Text | None = None
    dry_run: bool = False
    diff: bool = False
    rate: float | None = Field(None, gt=0, lt=MAX_RATE)
    target: Target | None = None

    @model_validator(mode="after")
    def _require_sense(self) -> Self:
        if self.selection is None:
            self.require_sense()
        elif self.model_fields_set & Selection.model_fields.keys():
            raise ValueError("give the selection's fields in `selection`, or all of them beside it")
        if self.diff and (not self.dry_run or self.target is not None):
            raise ValueError("diff goes with dry_run, and without a target: it is about the tables")
        if not self.dry_run and not (self.reason or "").strip():
            raise ValueError("a reason is required: it goes into the ledger and the audit")
        return self


class LedgerQuery(Parameters):
    """A list of the ledger."""

    limit: Limit = 50
    """Rows of a page."""


class ReplayPath(Parameters):
    """A replay."""

    id: str
    """An id of the ledger, or a unique prefix of it."""


class OutcomeQuery(Paged):
    """The outcomes of a replay's records."""

    outcome: OutcomeName | None = None
    """Only these."""


class ChangePath(ReplayPath):
    """A replay, and a change of its state."""

    verb: ReplayVerbName
    """The change."""


CREATE: Final = Route(
    "post",
    "/api/replays",
    "Plan a replay, or start one",
    Nothing,
    ReplayOrder,
    {200: ReplayPlan, 201: ShownReplay},
    ("overlapping_replay", "records_gone"),
)
LIST: Final = Route("get", "/api/replays", "The ledger", Nothing, LedgerQuery, {200: ReplayList})
SHOW: Final = Route("get", "/api/replays/{id}", "One replay", ReplayPath, Nothing, {200: ShownReplay}, ("not_found",))
OUTCOMES: Final = Route(
    "get",
    "/api/replays/{id}/outcomes",
    "List the outcomes of a replay's records at its target",
    ReplayPath,
    OutcomeQuery,
    {200: OutcomeList},
    ("not_found",),
)
CHANGE: Final = Route(
    "post",
    "/api/replays/{id}/{verb}",
    "Pause, resume or cancel a replay",
    ChangePath,
    Reasoned,
    {200: ShownReplay},
    ("invalid_transition", "not_found"),
)


@dataclass(frozen=True, slots=True)
class Replays:
    """The ports of the routes, besides those of all operations."""

    operations: Operations
    open_reader: Callable[[], LogReader]
    require_target: RequireTarget
    planning: asyncio.Semaphore

    def routes(self) -> list[Endpoint]:
        return [
            CREATE.to(self._create),
            LIST.to(self._list),
            SHOW.to(self._show),
            OUTCOMES.to(self._outcomes),
            CHANGE.to(self._change),
        ]

    @property
    def _pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        return self.operations.pool

    async def _create(self, call: RouteCall[Nothing, ReplayOrder]) -> web.Response:
        order, author = call.given, call.author(call.given.reason)
        selection = (order.selection or order).among(sources_of_log(self.operations.sources()))
        target = await self.require_target(order.target)
        async with self.planning, self._pool.acquire() as connection:
            plan, generation = await self._plan(connection, selection)
            if order.dry_run:
                diff = {"diff": await self._foreseen(connection, plan)} if order.diff else {}
                return answer({**plan.as_document(), **diff, "target": target, "dry_run": True})
            replay = await ledger.create(connection, ledger.NewReplay(plan, generation, author, order.rate, target))
            entry = await ledger.show_replay(connection, replay)
        created = answer(entry, 201)
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

    async def _list(self, call: RouteCall[Nothing, LedgerQuery]) -> web.Response:
        async with self._pool.acquire() as connection:
            return answer({"replays": await ledger.list_replays(connection, call.given.limit)})

    async def _show(self, call: RouteCall[ReplayPath, Nothing]) -> web.Response:
        async with self._pool.acquire() as connection:
            replay = await ledger.find_replay(connection, call.path.id)
            return answer(await ledger.show_replay(connection, replay))

    async def _outcomes(self, call: RouteCall[ReplayPath, OutcomeQuery]) -> web.Response:
        """The outcomes of its records at the target."""
        query = call.given
        async with self._pool.acquire() as connection:
            replay = await ledger.find_replay(connection, call.path.id)
            found, cursor = await list_outcomes(connection, replay, query.outcome, query.cursor, query.limit)
        return answer({"outcomes": found, "cursor": cursor})

    async def _change(self, call: RouteCall[ChangePath, Reasoned]) -> web.Response:
        author = call.author(call.given.reason)
        async with self._pool.acquire() as connection:
            replay = await ledger.find_replay(connection, call.path.id)
            return answer(await ledger.change(connection, replay, call.path.verb, author))
