"""Proofs that run in the console: one at a time, each with its row. The prover makes them."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, LiteralString

import asyncpg
import orjson

from replay import audit, metrics
from replay.audit import Author
from replay.locks import Lock, try_lock
from replay.ports import Advance
from replay.prove.certificate import Certificate
from schemas.errors import InvalidSelection, InvalidTransition
from schemas.masking import describe

ACTION: Final = "proof.start"
_INSERT_PROOF: Final[LiteralString] = (
    "INSERT INTO redrive.proofs (id, state, operator, reason) VALUES ($1, 'running', $2, $3)"
)
_SET_PROGRESS: Final[LiteralString] = "UPDATE redrive.proofs SET progress = $2 WHERE id = $1"
_FINISH_PROOF: Final[LiteralString] = """
    UPDATE redrive.proofs
    SET state = $2, certificate = $3::json, error = $4, finished_at = now(),
        progress = CASE $2 WHEN 'done' THEN 1 ELSE progress END
    WHERE id = $1
"""
_ENTRY: Final = "id, state, operator, reason, progress, error, created_at, finished_at"
_LIST_PROOFS: Final = (
    f"SELECT {_ENTRY}, certificate->>'verdict' AS verdict FROM redrive.proofs ORDER BY created_at DESC LIMIT $1"  # noqa: S608
)
_SHOW_PROOF: Final = (
    f"SELECT {_ENTRY}, certificate->>'verdict' AS verdict, certificate FROM redrive.proofs WHERE id = $1"  # noqa: S608
)
_RUNNING_PROOFS: Final[LiteralString] = "SELECT id FROM redrive.proofs WHERE state = 'running' ORDER BY created_at DESC"

# `Lock.PROOF` is held by the session that writes the row: a process that was killed holds nothing any more.
_CLOSE_INTERRUPTED: Final[LiteralString] = """
    UPDATE redrive.proofs SET state = 'failed', finished_at = now(), error = 'interrupted: its process was killed'
    WHERE state = 'running' AND pg_try_advisory_xact_lock(hashtext('redrive.proof'))
"""
_PROGRESS_SECONDS: Final = 1.0

Connect = Callable[[], "Awaitable[asyncpg.Connection[asyncpg.Record]]"]


class Proofs:
    """`prove` makes one proof, telling how far it is, for an author who accepts what the log lost, or for none;
    `connect` opens a connection that nothing else uses.
    """

    def __init__(self, connect: Connect, prove: Callable[[Advance, Author | None], Awaitable[Certificate]]) -> None:
        self._connect = connect
        self._prove = prove
        self._running: asyncio.Task[None] | None = None

    async def start(self, author: Author, is_loss_accepted: bool = False) -> uuid.UUID:
        """On record before it begins. Raises `InvalidTransition` while another one runs, in whatever process, and
        `InvalidSelection` for a loss that is accepted without a reason.
        """
        if is_loss_accepted and author.reason is None:
            raise InvalidSelection("accept_loss needs a reason: what was lost, and why you do without it")
        connection = await self._connect()
        try:
            if not await try_lock(connection, Lock.PROOF):
                found = await connection.fetchval(_RUNNING_PROOFS)
                raise InvalidTransition(f"proof {found} is running: one at a time")
            proof = uuid.uuid4()
            async with connection.transaction():
                await audit.note(connection, author.operator, ACTION, author.reason, proof=str(proof))
                await connection.execute(_INSERT_PROOF, proof, author.operator, author.reason)
        except BaseException:
            # Its server may be silent, and would be waited for.
            connection.terminate()
            raise
        self._running = asyncio.create_task(self._run(connection, proof, author if is_loss_accepted else None))
        return proof

    async def stop(self) -> None:
        """With the service: what has not ended is given up."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(
        self, connection: "asyncpg.Connection[asyncpg.Record]", proof: uuid.UUID, accepting: Author | None
    ) -> None:
        began, ratio = time.monotonic(), 0.0

        def advance(done: int, of: int) -> None:
            nonlocal ratio
            ratio = done / of

        async def tell() -> None:
            while True:
                await asyncio.sleep(_PROGRESS_SECONDS)
                await connection.execute(_SET_PROGRESS, proof, ratio)

        telling = asyncio.create_task(tell())
        try:
            certificate: str | None = None
            state, error = "failed", "interrupted: the console stopped"
            try:
                made = await self._prove(advance, accepting)
                metrics.proof_done(made.verdict, made.conclusion, time.monotonic() - began)
                certificate, state, error = made.model_dump_json(), "done", ""
            except Exception as failed:  # noqa: BLE001 - the outermost of the task: the row says what came of it
                metrics.proof_failed(failed)
                error = describe(failed)
            finally:
                telling.cancel()
                await asyncio.wait([telling])
                # Where the database is away, the row says `interrupted` as soon as somebody looks.
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await connection.execute(_FINISH_PROOF, proof, state, certificate, error or None)
        finally:
            await connection.close()


async def list_proofs(connection: Any, limit: int) -> list[dict[str, Any]]:
    """Newest first, without their certificates."""
    await connection.execute(_CLOSE_INTERRUPTED)
    return [_entry(row) for row in await connection.fetch(_LIST_PROOFS, limit)]


async def show_proof(connection: Any, proof: uuid.UUID) -> dict[str, Any] | None:
    """With its certificate, None until it is done."""
    await connection.execute(_CLOSE_INTERRUPTED)
    row = await connection.fetchrow(_SHOW_PROOF, proof)
    if row is None:
        return None
    certificate = row["certificate"]
    return {**_entry(row), "certificate": None if certificate is None else orjson.loads(certificate)}


def _entry(row: Any) -> dict[str, Any]:
    return {**row, "id": str(row["id"])}
