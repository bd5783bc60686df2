"""The state of a moment in the past: views in the schema `scratch_<name>`, over facts in `scratch_<name>_facts`.

Must not touch a generation, nor any position.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

import asyncpg

from processors.store import LIVE_GENERATION
from replay import audit
from replay.audit import Author
from replay.locks import Lock, advisory_lock
from replay.log.folding import LogFold
from replay.log.live_traffic import live_first
from replay.log.reader import LogReader
from replay.ports import Advance, BatchReader, Connection
from replay.selection.selection import Range
from replay.selection.times import moment_of
from replay.tables.generations import RebuildPorts, author_of, lost_ranges, name_ranges
from replay.tables.read_models import create_declared_views, create_facts, create_views
from schemas.errors import InvalidSelection, InvalidTransition, Misconfigured

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,29}(?<!_facts)\Z")
_LIVE_POSITIONS_IN_ORDER: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation) ORDER BY 1, 2
"""
_INSERT_SNAPSHOT: Final[LiteralString] = """
    INSERT INTO redrive.scratches (name, state, as_of, operator, reason) VALUES ($1, 'building', $2, $3, $4)
"""
_MARK_SNAPSHOT_READY: Final[LiteralString] = "UPDATE redrive.scratches SET state = 'ready' WHERE name = $1"
_LIST_SNAPSHOTS: Final[LiteralString] = """
    SELECT name, state, as_of, operator, reason, created_at FROM redrive.scratches ORDER BY created_at, name
"""
_STATE_OF_SNAPSHOT: Final[LiteralString] = "SELECT state FROM redrive.scratches WHERE name = $1"
_DELETE_SNAPSHOT: Final[LiteralString] = "DELETE FROM redrive.scratches WHERE name = $1"


@dataclass(frozen=True, slots=True)
class SnapshotOrder:
    """Whatever arrived before `at_ms`, under a name; or, with the loss accepted, what the log still holds of it."""

    name: str
    at_ms: int
    is_loss_accepted: bool = False

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise InvalidSelection(
                f"invalid snapshot name {self.name!r}: expected ^[a-z][a-z0-9_]{{0,29}}$, not …_facts"
            )
        try:
            _ = self.at
        except (ValueError, OverflowError) as error:
            raise InvalidSelection("time out of range: years 1 to 9999") from error

    @classmethod
    def named(cls, name: str | None, at_ms: int, is_loss_accepted: bool = False) -> "SnapshotOrder":
        """By default after the moment."""
        return cls(name or f"at_{cls('x', at_ms).at:%Y%m%dt%H%M%S}", at_ms, is_loss_accepted)

    @property
    def at(self) -> datetime:
        return moment_of(self.at_ms)

    @property
    def views(self) -> str:
        return f"scratch_{self.name}"

    @property
    def facts(self) -> str:
        return f"scratch_{self.name}_facts"


class _ArrivedBefore:
    """Later offsets can carry earlier times, so every record is asked."""

    def __init__(self, reader: BatchReader, at_ms: int, advance: Callable[[Range], None]) -> None:
        self._reader = reader
        self._at_ms = at_ms
        self._advance = advance

    async def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        async for part, records in self._reader.read(ranges):
            self._advance(part)
            yield part, [record for record in records if record.timestamp < self._at_ms]


async def make(
    ports: RebuildPorts,
    moment: SnapshotOrder,
    author: Author,
    advance: Advance,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Returns its entry of the list. Nothing is left of one that fails, and of one whose process was killed after the
    next `sweep`. `begun` is called once it is on record.

    Raises `InvalidTransition` where the name is taken, or the log no longer holds all that the state was made of, and
    `Misconfigured` for a login that may make no schema.
    """
    async with ports.pool.acquire() as holder, _as_owner():
        await sweep(holder)
        if await holder.fetchval(_STATE_OF_SNAPSHOT, moment.name) is not None:
            raise InvalidTransition(
                f"the snapshot {moment.name} exists: `redrive rebuild drop {moment.name}`, or choose another name"
            )
        async with advisory_lock(holder, Lock.SNAPSHOT, "try", moment.name) as is_ours:
            if not is_ours:
                raise InvalidTransition(f"another process is creating the snapshot {moment.name}")
            try:
                async with ports.open_log() as reader:
                    ranges = await _ranges(holder, reader, moment)
                    await _begin(ports, holder, moment, author)
                    begun()
                    await _fold(ports, holder, moment, (reader, ranges), advance)
            except BaseException:
                # A connection that is gone takes its lock along, and the next one sweeps.
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await _remove(holder, moment.name)
                raise
        return next(one for one in await describe_all(holder) if one["name"] == moment.name)


@asynccontextmanager
async def _as_owner() -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise Misconfigured(
            "permission denied: only the database owner (the role of `redrive migrate`) can create or drop a snapshot"
        ) from error


async def _begin(ports: RebuildPorts, connection: Connection, moment: SnapshotOrder, author: Author) -> None:
    async with connection.transaction():
        noted = author_of("rebuild.as_of", author)
        as_of, is_accepted = moment.at.isoformat(), moment.is_loss_accepted
        await audit.note(connection, *noted, name=moment.name, as_of=as_of, accept_loss=is_accepted)
        await connection.execute(_INSERT_SNAPSHOT, moment.name, moment.at, author.operator, author.reason)
        await create_facts(connection, moment.facts)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {moment.views}")
        await create_views(connection, moment.facts, moment.views)
        await create_declared_views(connection, ports.declared, moment.facts, moment.views)


async def _fold(
    ports: RebuildPorts,
    connection: Connection,
    moment: SnapshotOrder,
    log: tuple[LogReader, Sequence[Range]],
    advance: Advance,
) -> None:
    reader, ranges = log
    done, of = 0, sum(map(len, ranges))

    def advanced(part: Range) -> None:
        nonlocal done
        done += len(part)
        advance(done, of)

    reading = _ArrivedBefore(live_first(reader, connection), moment.at_ms, advanced)
    await LogFold(ports.pool, ports.foldings(moment.facts, None)).run(reading, ranges)
    await connection.execute(_MARK_SNAPSHOT_READY, moment.name)


async def _ranges(connection: Connection, reader: LogReader, moment: SnapshotOrder) -> list[Range]:
    """All that the log holds of the topics that are folded: also what the live workers have not come to yet.

    Raises `InvalidTransition` where it no longer holds all.
    """
    rows = await connection.fetch(_LIVE_POSITIONS_IN_ORDER)
    folded = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    held = await reader.extents(set(folded))
    lost = [(*place, 0, start) for place, (start, _) in sorted(held.items()) if start > 0]
    # Folded offsets that are missing: the topic is gone, or the end of the log.
    ends = {place: held[place][1] if place in held else 0 for place in folded}
    lost += [(*place, ends[place], stored) for place, stored in sorted(folded.items()) if stored > ends[place]]
    # After a topic was created again, the positions no longer cover the old one.
    lost += [
        part for part in await lost_ranges(connection, await connection.fetchval(LIVE_GENERATION)) if part not in lost
    ]
    if lost and not moment.is_loss_accepted:
        raise InvalidTransition(
            f"the log no longer holds {name_ranges(lost)}: the snapshot would lack these records"
            " (accept the loss to do without them)"
        )
    ranges = [Range(topic, partition, start, end) for (topic, partition), (start, end) in sorted(held.items())]
    return [part for part in ranges if len(part)]


async def describe_all(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch(_LIST_SNAPSHOTS)]


async def drop(connection: Connection, name: str, author: Author) -> None:
    """Raises `InvalidSelection`, `InvalidTransition` while it is being made, or `Misconfigured` as `make` does."""
    if await connection.fetchval(_STATE_OF_SNAPSHOT, name) is None:
        raise InvalidSelection(f"unknown snapshot {name!r}")
    async with advisory_lock(connection, Lock.SNAPSHOT, "try", name) as is_ours:
        if not is_ours:
            raise InvalidTransition(f"the snapshot {name} is being created")
        async with _as_owner(), connection.transaction():
            await audit.note(connection, *author_of("rebuild.drop", author), name=name)
            await _remove(connection, name)


async def sweep(connection: Connection) -> None:
    """Drop the half-made snapshots of killed processes."""
    for one in await describe_all(connection):
        if one["state"] != "building":
            continue
        async with advisory_lock(connection, Lock.SNAPSHOT, "try", one["name"]) as is_ours:
            # The process that held it may have ended meanwhile.
            if is_ours and await connection.fetchval(_STATE_OF_SNAPSHOT, one["name"]) == "building":
                await _remove(connection, one["name"])


async def _remove(connection: Connection, name: str) -> None:
    moment = SnapshotOrder(name, 0)
    async with connection.transaction():
        await connection.execute(f"DROP SCHEMA IF EXISTS {moment.views} CASCADE")
        await connection.execute(f"DROP SCHEMA IF EXISTS {moment.facts} CASCADE")
        await connection.execute(_DELETE_SNAPSHOT, name)
