"""Makes another generation the live one: with nothing missed, and for every reader and writer at once.

The writers' lock is held exclusively for as long as it takes to fold the last few offsets and to point the views.
"""

from typing import Any, Final, LiteralString

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random

from replay import audit, metrics
from replay.audit import Author
from replay.locks import Lock, transaction_lock
from replay.log.reader import LogReader
from replay.ports import Connection
from replay.rebuild.after_flip import leave, settle
from replay.rebuild.fold import CLOSE_OFFSETS, GenerationFold, NotFollowed, build
from replay.tables.generations import (
    Generation,
    RebuildPorts,
    accept_lost,
    author_of,
    find,
    is_beyond,
    lost_ranges,
    name_ranges,
    note_ready,
    older_projections,
)
from schemas.errors import InvalidTransition, Locked, Misconfigured, RedriveError, Unavailable

MAX_REST_OFFSETS: Final = 4 * CLOSE_OFFSETS
"""Folded while every writer waits."""

TRY_SECONDS: Final = 60.0
APPLY: Final = "rebuild.apply"
ROLLBACK: Final = "rebuild.rollback"
"""Actions of the audit."""

_END_IF_FROZEN: Final[LiteralString] = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
_STATE_OF_GENERATION: Final[LiteralString] = """
    SELECT l.live, coalesce(g.state <> 'dropped', false) AS is_kept
    FROM redrive.generation AS l LEFT JOIN redrive.generations AS g ON g.generation = $1
"""
_OPEN_REPLAYS: Final[LiteralString] = """
    SELECT id, state FROM redrive.replays
    WHERE generation = $1 AND state NOT IN ('done', 'failed', 'cancelled') ORDER BY created_at
"""
_REPLAYS_MISSED: Final[LiteralString] = """
    SELECT r.id::text, r.generation FROM redrive.replays AS r JOIN redrive.generations AS g ON g.generation = $1
    WHERE r.generation <> $1 AND coalesce(r.finished_at, 'infinity') >= g.created_at
      AND r.rows_changed + (SELECT coalesce(sum(rows_changed), 0) FROM redrive.replay_progress WHERE replay = r.id) > 0
    ORDER BY r.created_at DESC LIMIT 1
"""
_SET_LIVE: Final[LiteralString] = "UPDATE redrive.generation SET previous = live, live = $1, is_rolled_back = $2"
_LIVE_GENERATIONS: Final[LiteralString] = "SELECT live, previous, is_rolled_back FROM redrive.generation"


class _TooFar(RedriveError):
    """More is left to fold than anybody should wait for."""


_TRY_AGAIN: Final = (Locked, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, _TooFar, NotFollowed)


async def rollback_target(connection: Connection) -> int:
    """The previous generation; after a rollback the live one: whoever asks again, not having heard of its end, must not
    bring back what was taken back. Raises `InvalidTransition` where there is none.
    """
    row = await connection.fetchrow(_LIVE_GENERATIONS)
    if row is None or row["previous"] is None:
        raise InvalidTransition("there is no previous generation to go back to")
    return int(row["live"] if row["is_rolled_back"] else row["previous"])


async def flip(
    ports: RebuildPorts, reader: LogReader, number: int, action: str, author: Author, is_loss_accepted: bool = False
) -> dict[str, Any]:
    """Catch up, flip, and settle. Returns `{"live", "previous", "dead_letters"}`. A rollback is held to the same rules.

    To flip to the live one ends what a flip that was cut short left to do, and changes nothing else. A loss that is
    accepted here is so for proofs, too.

    Raises `InvalidTransition` while a replay of the live generation is under way, for a generation that newer code
    folded, and for one that lacks what the log no longer holds or what a replay has repaired since; `Unavailable` where
    the lock, or the last offsets, could not be had in a minute.
    """
    async with ports.pool.acquire() as connection:
        generation = await find(connection, number)
        if await is_beyond(connection, number, ports.code):
            raise InvalidTransition(f"generation {number} was folded by newer code than this")
        if not generation.is_live and not is_loss_accepted:
            await _require_whole(connection, ports, generation, action)
        before = await connection.fetchrow(_LIVE_GENERATIONS)
        await audit.note(connection, *author_of(action, author), generation=number, live=before and before["live"])
    tries = AsyncRetrying(
        retry=retry_if_exception_type(_TRY_AGAIN),
        wait=wait_random(0.1, 1),
        stop=stop_after_delay(TRY_SECONDS),
        reraise=True,
    )
    try:
        async for attempt in tries:
            with attempt:
                fold = GenerationFold(ports, generation)
                if not generation.is_live:
                    fold = await build(ports, generation, reader, lambda *_: None)
                async with ports.pool.acquire() as connection:
                    # Catching up may have found that the log lost more.
                    if not generation.is_live and not is_loss_accepted:
                        await _require_whole(connection, ports, generation, action)
                    if await _flip_at_once(connection, ports, fold, reader, action == ROLLBACK):
                        metrics.generation_flipped(number)
    except _TRY_AGAIN as error:
        raise Unavailable(f"generation {number} could not go live for {TRY_SECONDS:.0f} s: {error}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise Misconfigured(
            "permission denied: only the owner of the views (the role of `redrive migrate`) can flip"
        ) from error
    async with ports.pool.acquire() as connection:
        if is_loss_accepted:
            await accept_lost(connection, number, author)
        after = await connection.fetchrow(_LIVE_GENERATIONS)
    live = {} if after is None else {"live": after["live"], "previous": after["previous"]}
    return {**live, "dead_letters": await settle(ports, reader)}


async def _require_whole(connection: Connection, ports: RebuildPorts, generation: Generation, action: str) -> None:
    """Raises `InvalidTransition`, naming what of the live tables a generation lacks."""
    number = generation.number
    lost = await lost_ranges(connection, number)
    if lost:
        raise InvalidTransition(
            f"generation {number} lacks what the log no longer holds: {name_ranges(lost)}; rows of these records would"
            " be gone (accept the loss to do without them)"
        )
    if generation.copied_from is not None and action == APPLY:
        live = await connection.fetchval(_LIVE_GENERATIONS)
        if live != generation.copied_from:
            raise InvalidTransition(
                f"generation {number} copied tables from generation {generation.copied_from}, and {live} is live now:"
                " rebuild again (or accept the loss of what changed since)"
            )
    is_fresh = generation.only is None and not generation.was_live
    if is_fresh and not await older_projections(connection, number, ports.code):
        return
    # The rows that a replay adds to the live tables are missing from an earlier copy, from the fold of older code, and
    # from a generation that was live before.
    replayed = await connection.fetchrow(_REPLAYS_MISSED, number)
    if replayed is not None:
        raise InvalidTransition(
            f"generation {number} lacks what replay {replayed['id']} has changed in generation"
            f" {replayed['generation']} since: rebuild again (or accept the loss of that)"
        )


async def _flip_at_once(
    connection: Connection, ports: RebuildPorts, fold: GenerationFold, reader: LogReader, is_rollback: bool
) -> bool:
    """True if another generation went live: False if it was this one already."""
    number = fold.generation.number
    async with connection.transaction():
        await connection.execute(_END_IF_FROZEN)
        await transaction_lock(connection, Lock.GENERATION, "exclusive", seconds=1)
        # Only now: an earlier statement's snapshot could be older than the lock.
        state = await connection.fetchrow(_STATE_OF_GENERATION, number)
        if state is None or not state["is_kept"]:
            raise InvalidTransition(f"generation {number} was dropped")
        if state["live"] == number:
            return False
        await _require_no_replay(connection, state["live"])
        rest = await fold.rest(connection, reader)
        if sum(map(len, rest)) > MAX_REST_OFFSETS:
            raise _TooFar
        await fold.fold_on(connection, reader, rest)
        if await fold.is_behind(connection):
            raise _TooFar
        await note_ready(connection, number)
        await leave(connection, number)
        await connection.execute(_SET_LIVE, number, is_rollback)
        await ports.point(connection, number, ports.declared)
    return True


async def _require_no_replay(connection: Connection, live: int) -> None:
    """It would fail half-way: its generation would be another."""
    row = await connection.fetchrow(_OPEN_REPLAYS, live)
    if row is not None:
        raise InvalidTransition(
            f"replay {row['id']} is {row['state']} on generation {live}: wait for its end or cancel it,"
            " then apply again"
        )
