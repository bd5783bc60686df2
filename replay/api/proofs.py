"""`POST /api/proofs`, `GET /api/proofs` and `GET /api/proofs/{id}`."""

import uuid
from datetime import datetime
from typing import Any, Literal

import asyncpg
from aiohttp import web
from pydantic import BaseModel

from replay.api.requests import answer, author_of, document_of, flag_of, parameters
from replay.prove.certificate import Certificate, Verdict
from replay.prove.proofs import Proofs, list_proofs, show_proof
from replay.selection.selection import page_limit
from schemas.openapi import Document


class ProofOrder(BaseModel):
    """`accept_loss`: do without what the log lost, for a `reason`. May be left out, the whole body too."""

    reason: str | None = None
    accept_loss: bool = False


class ProofEntry(Document):
    """A proof that was asked for; `progress` from 0 to 1."""

    id: str
    state: Literal["running", "done", "failed"]
    verdict: Verdict | None
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


def proof_routes(pool: "asyncpg.Pool[asyncpg.Record]", proofs: Proofs, operator: str) -> list[web.RouteDef]:
    """Routes for an application that has authenticated the request; `operator` is who it was where a request does not
    say.
    """

    async def start(request: web.Request) -> web.Response:
        body = await document_of(request)
        author = author_of(request, body, operator)
        begun = answer(await _show(await proofs.start(author, flag_of(body, "accept_loss"))))
        begun.set_status(201)
        return begun

    async def list_all(request: web.Request) -> web.Response:
        limit = page_limit(parameters(request.query, frozenset({"limit"})).get("limit"))
        async with pool.acquire() as connection:
            return answer({"proofs": await list_proofs(connection, limit)})

    async def show(request: web.Request) -> web.Response:
        try:
            proof = uuid.UUID(request.match_info["id"])
        except ValueError as error:
            raise web.HTTPNotFound(reason="not found") from error
        return answer(await _show(proof))

    async def _show(proof: uuid.UUID) -> dict[str, Any]:
        async with pool.acquire() as connection:
            found = await show_proof(connection, proof)
        if found is None:
            raise web.HTTPNotFound(reason="not found", text="There is no such proof.")
        return found

    return [
        web.post("/api/proofs", start),
        web.get("/api/proofs", list_all),
        web.get("/api/proofs/{id}", show),
    ]
