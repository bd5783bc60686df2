"""The operators' actions over HTTP: sources, the quarantine, corrections, dead letters, the audit.

The modules that they call do the work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from aiohttp import web

from replay.api.corrections import correction_routes
from replay.api.dead_letters import Requeueing, dead_letter_routes
from replay.api.documents import Audit, Changed
from replay.api.fields import Limit, Nothing, Parameters, Reasoned, RowId, Text, Window
from replay.api.proofs import proof_routes
from replay.api.quarantine import QuarantineDoors, quarantine_routes
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.audit import AuditSearch, list_audit
from replay.operations.corrections import Desk
from replay.operations.sources import ControlTopic, SourceChange, SourceVerbName, change, describe_all
from replay.prove.proofs import Proofs
from replay.rebuild.snapshot_jobs import SnapshotJobs
from replay.tables.generations import RebuildPorts
from schemas.settings import Source


class SourcePath(Parameters):
    """A source, and a change of its state."""

    source: str
    """The name of a source."""
    verb: SourceVerbName
    """The change."""


class AuditQuery(Window):
    """A list of the audit."""

    operator: Text | None = None
    """One operator."""
    action: Text | None = None
    """A glob: `source.*`."""
    limit: Limit = 50
    """Rows of a page."""
    cursor: RowId | None = None
    """The `cursor` of the previous page, unchanged."""


CHANGE: Final = Route(
    "post",
    "/api/sources/{source}/{verb}",
    "Pause, resume, disable or enable a source",
    SourcePath,
    Reasoned,
    {200: Changed},
    ("append_in_doubt", "invalid_transition", "unknown_source", "not_found"),
)
AUDIT: Final = Route("get", "/api/audit", "List the actions of operators", Nothing, AuditQuery, {200: Audit})


@dataclass(frozen=True, slots=True)
class Operations:
    """The ports of the routes. `sources` are the current ones."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    sources: Callable[[], Mapping[str, Source]]
    control: ControlTopic
    quarantine: QuarantineDoors
    desk: Callable[[], Desk]
    requeue: Requeueing
    operator: str
    """The operator, if a request names none."""
    proofs: Proofs
    rebuilding: RebuildPorts
    scratches: SnapshotJobs

    def routes(self) -> list[Endpoint]:
        return [
            CHANGE.to(self._change_source),
            AUDIT.to(self._list_audit),
            *quarantine_routes(self.pool, self.quarantine, self.sources),
            *correction_routes(self.pool, self.desk),
            *dead_letter_routes(self.pool, self.requeue, self.sources),
            *proof_routes(self.pool, self.proofs),
        ]

    async def states(self) -> Sequence[dict[str, Any]]:
        """Every source with its state."""
        return describe_all(self.sources(), await self.control.states())

    async def _change_source(self, call: RouteCall[SourcePath, Reasoned]) -> web.Response:
        wanted = SourceChange(call.path.source, call.path.verb, call.author(call.given.reason))
        async with self.pool.acquire() as connection:
            return answer(await change(connection, self.control, self.sources(), wanted))

    async def _list_audit(self, call: RouteCall[Nothing, AuditQuery]) -> web.Response:
        query = call.given
        search = AuditSearch(query.operator, query.action, query.from_ms, query.to_ms)
        async with self.pool.acquire() as connection:
            found, following = await list_audit(connection, search, query.limit, query.cursor)
        return answer({"audit": found, "cursor": following})
