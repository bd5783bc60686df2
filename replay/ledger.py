"""The ledger of replays: what was asked, by whom and why, how far it came, what it did."""

import uuid
from typing import Any, Final, LiteralString

import orjson

from replay import audit
from replay.plan import Plan
from replay.ports import Connection, Outcome
from replay.selection import Range

_CREATE: Final[LiteralString] = """
    INSERT INTO redrive.replays (id, state, selection, generation, operator, reason, total)
    VALUES ($1, 'running', $2::jsonb, $3, $4, $5, $6)
"""
_PART: Final[LiteralString] = """
    INSERT INTO redrive.replay_progress (replay, topic, partition, next_offset, end_offset) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (replay, topic, partition) DO UPDATE
    SET next_offset = least(replay_progress.next_offset, EXCLUDED.next_offset),
        end_offset = greatest(replay_progress.end_offset, EXCLUDED.end_offset)
"""
_ADVANCE: Final[LiteralString] = """
    WITH moved AS (
        UPDATE redrive.replay_progress SET next_offset = $4 WHERE replay = $1 AND topic = $2 AND partition = $3
    )
    UPDATE redrive.replays
    SET records = records + $5, events = events + $6, rows_changed = rows_changed + $7, dead = dead + $8
    WHERE id = $1
"""
_FINISH: Final[LiteralString] = """
    UPDATE redrive.replays SET state = $2, error = $3, slowed_by = NULL, finished_at = now() WHERE id = $1
"""
_SLOW: Final[LiteralString] = "UPDATE redrive.replays SET slowed_by = $2 WHERE id = $1"
_LIST: Final[LiteralString] = """
    SELECT id, state, slowed_by, selection, operator, reason, records, events, rows_changed, dead, total, error,
           created_at, finished_at
    FROM redrive.replays ORDER BY created_at DESC LIMIT $1
"""
_SHOW: Final[LiteralString] = """
    SELECT id, state, slowed_by, selection, operator, reason, records, events, rows_changed, dead, total, error,
           created_at, finished_at
    FROM redrive.replays WHERE id = $1
"""


# A process that was killed writes nothing any more; its session's lock is gone with it.
_HOLD: Final[LiteralString] = "SELECT pg_advisory_lock_shared(hashtext('redrive.replay'), hashtext($1::text))"
_CLOSE_INTERRUPTED: Final[LiteralString] = """
    UPDATE redrive.replays
    SET state = 'failed', slowed_by = NULL, finished_at = now(),
        error = 'interrupted: its process was killed; run it again, which changes nothing that was done'
    WHERE state = 'running' AND created_at < now() - interval '10 seconds'
      AND pg_try_advisory_xact_lock(hashtext('redrive.replay'), hashtext(id::text))
"""


class Ledger:
    """One replay's row. Progress is written in the transaction of the rows that it stands for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.id = uuid.uuid4()

    async def create(self, plan: Plan, generation: int, operator: str, reason: str) -> None:
        document = orjson.dumps(plan.selection.as_document()).decode()
        async with self._connection.transaction():
            await audit.note(
                self._connection, operator, "replay.run", reason, replay=str(self.id), records=plan.records
            )
            await self._connection.execute(_CREATE, self.id, document, generation, operator, reason, plan.records)
            await self._connection.executemany(
                _PART, [(self.id, part.topic, part.partition, part.start, part.end) for part in plan.ranges]
            )

    async def hold(self) -> None:
        """For as long as the connection lives: it says that somebody is at work on this replay."""
        await self._connection.execute(_HOLD, str(self.id))

    async def advance(self, part: Range, records: int, outcome: Outcome) -> None:
        await self._connection.execute(
            _ADVANCE,
            self.id,
            part.topic,
            part.partition,
            part.end,
            records,
            outcome.events,
            outcome.rows_changed,
            outcome.dead,
        )

    async def slow(self, reason: str | None) -> None:
        """Say why it is slow; None: it no longer is."""
        await self._connection.execute(_SLOW, self.id, reason)

    async def finish(self, state: str, error: str | None = None) -> None:
        await self._connection.execute(_FINISH, self.id, state, error)


async def list_replays(connection: Connection, limit: int) -> list[dict[str, Any]]:
    await connection.execute(_CLOSE_INTERRUPTED)
    return [_entry(row) for row in await connection.fetch(_LIST, limit)]


async def show_replay(connection: Connection, replay: uuid.UUID) -> dict[str, Any] | None:
    await connection.execute(_CLOSE_INTERRUPTED)
    row = await connection.fetchrow(_SHOW, replay)
    return None if row is None else _entry(row)


def _entry(row: Any) -> dict[str, Any]:
    return {**row, "id": str(row["id"]), "selection": orjson.loads(row["selection"])}
