"""The operators' actions over HTTP: sources, the quarantine, corrections, dead letters, the audit.

What they do is in the modules they call.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from aiohttp import web

from replay.api.corrections import correction_routes
from replay.api.dead_letters import Requeueing, dead_letter_routes
from replay.api.proofs import proof_routes
from replay.api.quarantine import QuarantineDoors, quarantine_routes
from replay.api.requests import answer, author_of, document_of, number_of, operator_of, parameters, time_of
from replay.audit import AuditSearch, list_audit
from replay.operations.corrections import Desk
from replay.operations.sources import VERBS, Change, ControlTopic, change, describe_all
from replay.prove.proofs import Proofs
from replay.rebuild.snapshot_jobs import Scratches
from replay.selection.selection import page_limit
from replay.tables.generations import Ports
from schemas.settings import Source

_AUDIT: Final = frozenset({"operator", "action", "from", "to", "limit", "cursor"})


@dataclass(frozen=True, slots=True)
class Operations:
    """What the routes need of others. `sources` are today's."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    sources: Callable[[], Mapping[str, Source]]
    control: ControlTopic
    quarantine: QuarantineDoors
    desk: Callable[[], Desk]
    requeue: Requeueing
    operator: str
    """Who it was, where a request does not say."""
    proofs: Proofs
    rebuilding: Ports
    scratches: Scratches

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/sources/{source}/{verb}", self._change_source),
            web.get("/api/audit", self._list_audit),
            *quarantine_routes(self.pool, self.quarantine, self.sources, self.operator),
            *correction_routes(self.pool, self.desk, self.who),
            *dead_letter_routes(self.pool, self.requeue, self.operator, self.sources),
            *proof_routes(self.pool, self.proofs, self.operator),
        ]

    def who(self, request: web.Request) -> str:
        """Raises `InvalidSelection`."""
        return operator_of(request, self.operator)

    async def states(self) -> Sequence[dict[str, Any]]:
        """Every source with its state."""
        return describe_all(self.sources(), await self.control.states())

    async def _change_source(self, request: web.Request) -> web.Response:
        source, verb = request.match_info["source"], request.match_info["verb"]
        if verb not in VERBS:
            raise web.HTTPNotFound(reason="not found")
        wanted = Change(source, verb, author_of(request, await document_of(request), self.operator))
        async with self.pool.acquire() as connection:
            return answer(await change(connection, self.control, self.sources(), wanted))

    async def _list_audit(self, request: web.Request) -> web.Response:
        query = parameters(request.query, _AUDIT)
        search = AuditSearch(query.get("operator"), query.get("action"), time_of(query, "from"), time_of(query, "to"))
        limit, cursor = page_limit(query.get("limit")), number_of(query, "cursor")
        async with self.pool.acquire() as connection:
            found, following = await list_audit(connection, search, limit, cursor)
        return answer({"audit": found, "cursor": following})
