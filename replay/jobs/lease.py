"""The process that works on a replay: its session holds the lock. A killed process loses its session at once, and a
frozen one after a while.

Must not read the log.
"""

import os
import socket
import uuid
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import asyncpg
import orjson

from replay.jobs.plan import Plan, unpinned
from replay.locks import Lock, try_lock
from replay.log.topic_ids import Logs
from replay.ports import Connection
from replay.selection.offsets import partition_of
from replay.selection.selection import Range, stored_selection

# Locked and released within the statement; the states first, so that nothing else is locked for a moment. A process
# that made a replay to run it itself (`--foreground`) has two seconds to take it before others look.
_RUNNABLE_REPLAYS: Final[LiteralString] = """
    WITH waiting AS MATERIALIZED (
        SELECT id, created_at FROM redrive.replays
        WHERE state IN ('planned', 'running') AND plan IS NOT NULL
          AND (id = $1 OR $1::uuid IS NULL AND created_at < now() - interval '2 seconds')
    )
    SELECT id FROM waiting WHERE pg_try_advisory_xact_lock(hashtext('redrive.replay'), hashtext(id::text))
    ORDER BY created_at
"""
# A host that has gone without a word is noticed within a quarter of a minute.
_KEEP_ALIVE: Final[LiteralString] = """
    SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
           set_config('tcp_keepalives_count', '3', false)
"""
_START_REPLAY: Final[LiteralString] = """
    UPDATE redrive.replays
    SET state = 'running', runner = $2, started_at = coalesce(started_at, now()), seen_at = now()
    WHERE id = $1 AND state IN ('planned', 'running')
    RETURNING selection, plan, target, rate, generation, total, left_to_live
"""
_PROGRESS_OF_REPLAY: Final[LiteralString] = """
    SELECT topic, partition, next_offset, offsets, done, topic_id FROM redrive.replay_progress WHERE replay = $1
"""
_STATE_OF_REPLAY: Final[LiteralString] = "SELECT state FROM redrive.replays WHERE id = $1"
_RENEW_LEASE: Final[LiteralString] = """
    WITH seen AS (
        UPDATE redrive.replays SET seen_at = now()
        WHERE id = $1 AND state = 'running' AND (seen_at < now() - interval '5 seconds') IS NOT FALSE
    )
    SELECT state = 'running' FROM redrive.replays WHERE id = $1
"""
# Several of those 5 s. A process that is ended although it lives finds its session gone, and each batch checks whether
# another process has been there before.
_END_FROZEN: Final[LiteralString] = """
    WITH silent AS MATERIALIZED (
        SELECT id, runner FROM redrive.replays
        WHERE state IN ('planned', 'running') AND seen_at < now() - interval '30 seconds'
    )
    SELECT silent.id, silent.runner, pg_terminate_backend(pid) AS is_ended
    FROM silent JOIN pg_locks ON locktype = 'advisory' AND granted AND objsubid = 2
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND classid::bigint = hashtext('redrive.replay')::bigint & 4294967295
         AND objid::bigint = hashtext(silent.id::text)::bigint & 4294967295
    WHERE pid <> pg_backend_pid()
"""
_FINISH_REPLAY: Final[LiteralString] = """
    UPDATE redrive.replays SET state = $2, error = $3, slowed_by = NULL, finished_at = now()
    WHERE id = $1 AND state = 'running'
"""
_SET_SLOWED_BY: Final[LiteralString] = "UPDATE redrive.replays SET slowed_by = $2 WHERE id = $1 AND state = 'running'"


@dataclass(frozen=True, slots=True)
class Job:
    """A replay that this process holds. `target` None: the projections, in `generation`."""

    id: uuid.UUID
    plan: Plan
    target: dict[str, Any] | None
    rate: float | None
    generation: int


async def free(
    connection: "Connection | asyncpg.Pool[asyncpg.Record]", replay: uuid.UUID | None = None
) -> list[uuid.UUID]:
    """Replays that are to be run and that nobody holds, the oldest first; or only that one."""
    return [row["id"] for row in await connection.fetch(_RUNNABLE_REPLAYS, replay)]


async def end_frozen(connection: "Connection | asyncpg.Pool[asyncpg.Record]") -> list[tuple[uuid.UUID, str]]:
    """(replay, runner) of those whose process holds them and has been silent for 30 s: their sessions are ended.

    Raises `asyncpg.InsufficientPrivilegeError` for a session of another login.
    """
    rows = await connection.fetch(_END_FROZEN)
    return [(row["id"], row["runner"] or "unknown") for row in rows if row["is_ended"]]


async def hold(connection: Connection, replay: uuid.UUID) -> Job | None:
    """For as long as the connection lives. None: somebody else holds it, or it is not to be run.

    Raises `InvalidSelection` for a row that can't be read, and for ids that select nothing.
    """
    await connection.execute(_KEEP_ALIVE)
    if not await try_lock(connection, Lock.REPLAY, str(replay)):
        return None
    row = await connection.fetchrow(_START_REPLAY, replay, f"{socket.gethostname()}/{os.getpid()}")
    if row is None:
        return None
    target, plan = row["target"], planned(row["selection"], row["plan"])
    plan.records, plan.left_to_live = row["total"], row["left_to_live"]
    plan.require_records()
    return Job(
        replay,
        plan,
        None if target is None else orjson.loads(target),
        row["rate"],
        row["generation"],
    )


def planned(selection: str, plan: str) -> Plan:
    """From the texts of a row. Raises `InvalidSelection` where other code wrote it, or a hand."""
    return unpinned(stored_selection(orjson.loads(selection)), orjson.loads(plan))


async def remaining(connection: Connection, job: Job) -> tuple[list[Range], Logs, int]:
    """The ranges still to be read, the logs that they are of, and the number of offsets read."""
    rows = {(row["topic"], row["partition"]): row for row in await connection.fetch(_PROGRESS_OF_REPLAY, job.id)}
    left = [
        Range(*partition_of(part), max(part.start, rows[partition_of(part)]["next_offset"]), part.end)
        for part in job.plan.ranges
    ]
    logs = {topic: row["topic_id"] for (topic, _), row in rows.items()}
    return [part for part in left if len(part)], logs, sum(row["done"] for row in rows.values())


async def is_running(connection: Connection, replay: uuid.UUID) -> bool:
    return bool(await connection.fetchval(_STATE_OF_REPLAY, replay) == "running")


async def is_still_running(connection: Connection, replay: uuid.UUID) -> bool:
    """The same of the one that this session holds, which is heard of by that."""
    return bool(await connection.fetchval(_RENEW_LEASE, replay))


async def finish(connection: Connection, replay: uuid.UUID, state: str, error: str | None = None) -> None:
    """Unless it was paused or cancelled meanwhile."""
    await connection.execute(_FINISH_REPLAY, replay, state, error)


async def slow(connection: "Connection | asyncpg.Pool[asyncpg.Record]", replay: uuid.UUID, reason: str | None) -> None:
    """Report why it is slow or makes no progress; None: it is no longer slow."""
    await connection.execute(_SET_SLOWED_BY, replay, reason)
