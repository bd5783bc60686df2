"""`POST /api/proofs`, `GET /api/proofs` and `GET /api/proofs/{id}`."""

import uuid
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
from aiohttp import web

from replay.api.fields import Limit, Nothing, Parameters, Reasoned
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.prove.certificate import Certificate, ProofVerdict
from replay.prove.proofs import Proofs, list_proofs, show_proof
from schemas.openapi import Document


class ProofOrder(Reasoned):
    """`accept_loss`: do without what the log lost, for a `reason`. The body may be left out."""

    accept_loss: bool = False


class ProofQuery(Parameters):
    """A list of proofs."""

    limit: Limit = 50
    """Rows of a page."""


class ProofPath(Parameters):
    """A proof."""

    id: uuid.UUID
    """The id of a proof."""


class ProofEntry(Document):
    """A proof that was asked for; `progress` from 0 to 1."""

    id: str
    state: Literal["running", "done", "failed"]
    verdict: ProofVerdict | None
    operator: str
    reason: str | None
    progress: float
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class ShownProof(ProofEntry):
    """The certificate is null until it is done."""

    certificate: Certificate | None


class ProofList(Document):
    proofs: list[ProofEntry]


START: Final = Route(
    "post",
    "/api/proofs",
    "Prove that the live tables are what the log says",
    Nothing,
    ProofOrder,
    {201: ShownProof},
    ("invalid_transition",),
)
LIST: Final = Route("get", "/api/proofs", "Proofs, newest first", Nothing, ProofQuery, {200: ProofList})
SHOW: Final = Route(
    "get",
    "/api/proofs/{id}",
    "One proof, with its certificate",
    ProofPath,
    Nothing,
    {200: ShownProof},
    ("not_found",),
)


def proof_routes(pool: "asyncpg.Pool[asyncpg.Record]", proofs: Proofs) -> list[Endpoint]:
    async def start(call: RouteCall[Nothing, ProofOrder]) -> web.Response:
        order = call.given
        return answer(await _show(await proofs.start(call.author(order.reason), order.accept_loss)), 201)

    async def list_all(call: RouteCall[Nothing, ProofQuery]) -> web.Response:
        async with pool.acquire() as connection:
            return answer({"proofs": await list_proofs(connection, call.given.limit)})

    async def show(call: RouteCall[ProofPath, Nothing]) -> web.Response:
        return answer(await _show(call.path.id))

    async def _show(proof: uuid.UUID) -> dict[str, Any]:
        async with pool.acquire() as connection:
            found = await show_proof(connection, proof)
        if found is None:
            raise web.HTTPNotFound(reason="not found", text="There is no such proof.")
        return found

    return [START.to(start), LIST.to(list_all), SHOW.to(show)]
