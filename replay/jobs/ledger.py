"""The ledger of replays: their selections, operators and reasons, states, progress and results.

Must not run one. Progress is written in the transaction of its rows.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString, NamedTuple

import orjson

from replay import audit
from replay.audit import Author
from replay.jobs.plan import Plan
from replay.locks import Lock, transaction_lock
from replay.ports import Connection
from replay.selection.offsets import common, decode, partition_of
from replay.selection.selection import Range
from schemas.errors import InvalidSelection, InvalidTransition, NotFound, OverlappingReplay
from schemas.topics import TopicPartition

ReplayState = Literal["planned", "running", "paused", "done", "cancelled", "failed"]
OPEN: Final = ("planned", "running", "paused")

_INSERT_REPLAY: Final[LiteralString] = """
    INSERT INTO redrive.replays (id, state, selection, plan, target, rate, generation, operator, reason, total, gone,
                                 records_gone, left_to_live)
    VALUES ($1, 'planned', $2::jsonb, $3::jsonb, $4::jsonb, $5, $6, $7, $8, $9, $10::jsonb, $11, $12)
"""
_INSERT_PROGRESS: Final[LiteralString] = """
    INSERT INTO redrive.replay_progress (replay, topic, partition, next_offset, end_offset, offsets, topic_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_OPEN_REPLAYS_OF_TOPICS: Final[LiteralString] = """
    SELECT r.id, r.state, r.plan FROM redrive.replays AS r
    WHERE r.state IN ('planned', 'running', 'paused') AND r.plan IS NOT NULL AND r.generation = $1
      AND r.target IS NOT DISTINCT FROM $2::jsonb AND EXISTS (
          SELECT FROM redrive.replay_progress AS p
          JOIN unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[]) AS n (topic, partition, first, past)
              USING (topic, partition)
          WHERE p.replay = r.id AND p.next_offset < n.past AND n.first < p.end_offset)
    ORDER BY r.created_at
"""
_STATE_OF_REPLAY: Final[LiteralString] = "SELECT state FROM redrive.replays WHERE id = $1"
_SET_STATE: Final[LiteralString] = """
    UPDATE redrive.replays
    SET state = $2, slowed_by = NULL, finished_at = CASE WHEN $2 = 'cancelled' THEN now() END WHERE id = $1
"""
# Older versions kept the counts in the row itself.
_ENTRY: Final[LiteralString] = """
    SELECT r.id, r.state, r.slowed_by, r.selection, r.target, r.rate, r.operator, r.reason,
           r.records + coalesce(p.records, 0) AS records, r.events + coalesce(p.events, 0) AS events,
           r.rows_changed + coalesce(p.rows_changed, 0) AS rows_changed, r.dead + coalesce(p.dead, 0) AS dead,
           coalesce(p.failed, 0) AS failed, r.total, r.records_gone, r.left_to_live,
           CASE WHEN r.state = 'done' THEN 1 ELSE coalesce(p.done / nullif(p.offsets, 0), 0) END::float8 AS progress,
           r.generation, r.runner, r.error, r.created_at, r.started_at, r.finished_at
    FROM redrive.replays AS r LEFT JOIN LATERAL (
        SELECT sum(records)::bigint AS records, sum(events)::bigint AS events, sum(failed)::bigint AS failed,
               sum(rows_changed)::bigint AS rows_changed, sum(dead)::bigint AS dead, sum(done) AS done,
               sum(offsets) AS offsets
        FROM redrive.replay_progress WHERE replay = r.id
    ) AS p ON true
"""
_LIST_REPLAYS: Final[LiteralString] = f"{_ENTRY} ORDER BY r.created_at DESC LIMIT $1"
_SHOW_REPLAY: Final[LiteralString] = f"{_ENTRY} WHERE r.id = $1"
_REPLAYS_BY_PREFIX: Final[LiteralString] = """
    SELECT id::text FROM redrive.replays WHERE id BETWEEN $1 AND $2 ORDER BY created_at DESC LIMIT $3
"""
_BEGINNING: Final = re.compile(r"[0-9a-f]{1,32}")
_SHOWN: Final = 5
_GONE_OF_REPLAY: Final[LiteralString] = "SELECT gone FROM redrive.replays WHERE id = $1"
_LIST_PROGRESS: Final[LiteralString] = """
    SELECT topic, partition, next_offset, end_offset, offsets, done, records FROM redrive.replay_progress
    WHERE replay = $1 ORDER BY topic, partition
"""


class ReplayVerb(NamedTuple):
    """The state that it brings, and from which states."""

    state: ReplayState
    allowed_from: frozenset[str]


ReplayVerbName = Literal["pause", "resume", "cancel"]
VERBS: Final[dict[ReplayVerbName, ReplayVerb]] = {
    "pause": ReplayVerb("paused", frozenset({"planned", "running"})),
    # A process that runs replays resumes it from there.
    "resume": ReplayVerb("planned", frozenset({"paused"})),
    "cancel": ReplayVerb("cancelled", frozenset(OPEN)),
}


class UnknownReplay(NotFound):
    """The ledger has no replay of that id."""


@dataclass(frozen=True, slots=True)
class NewReplay:
    """An order to run a plan. `target` None: the projections, in this generation; `rate`: records a second."""

    plan: Plan
    generation: int
    author: Author
    rate: float | None = None
    target: Mapping[str, Any] | None = None


async def create(connection: Connection, order: NewReplay) -> uuid.UUID:
    """Put a replay on the ledger, as planned. Raises `OverlappingReplay`."""
    replay, plan = uuid.uuid4(), order.plan
    operator, reason = order.author
    target = None if order.target is None else _json(order.target)
    spans = _spans(plan.ranges)
    async with connection.transaction():
        await transaction_lock(connection, Lock.REPLAY_CREATE, "exclusive")
        await _require_alone(connection, order, target, spans)
        await audit.note(
            connection,
            operator,
            "replay.run",
            reason,
            replay=str(replay),
            selection=plan.selection.as_document(),
            records=plan.records,
            target=order.target,
        )
        gone = _json([one.as_document() for one in plan.gone])
        row = (_json(plan.selection.as_document()), _json(plan.pin()), target, order.rate, order.generation, operator)
        counts = (reason or "", plan.records, gone, plan.records_gone, plan.left_to_live)
        await connection.execute(_INSERT_REPLAY, replay, *row, *counts)
        parts = [(replay, *place, *span, plan.logs.get(place[0])) for place, span in spans.items()]
        await connection.executemany(_INSERT_PROGRESS, parts)
    return replay


def _spans(ranges: list[Range]) -> dict[TopicPartition, tuple[int, int, int]]:
    """{partition: (first offset, end, how many of them are read)}"""
    found: dict[TopicPartition, tuple[int, int, int]] = {}
    for part in ranges:
        first, end, offsets = found.get(partition_of(part), (part.start, part.end, 0))
        found[partition_of(part)] = (min(first, part.start), max(end, part.end), offsets + len(part))
    return found


async def _require_alone(
    connection: Connection, order: NewReplay, target: str | None, spans: Mapping[TopicPartition, tuple[int, int, int]]
) -> None:
    parts = [(*place, first, end) for place, (first, end, _) in spans.items()]
    columns = [list(column) for column in zip(*parts, strict=True)] or [[], [], [], []]
    for row in await connection.fetch(_OPEN_REPLAYS_OF_TOPICS, order.generation, target, *columns):
        both = common(order.plan.ranges, decode(orjson.loads(row["plan"])["ranges"]))
        if both:
            raise OverlappingReplay(
                f"replay {row['id']} is {row['state']} and covers some of the same offsets, from"
                f" {both[0].topic}/{both[0].partition}/{both[0].start}: wait for it, or cancel it"
            )


async def change(connection: Connection, replay: uuid.UUID, verb: ReplayVerbName, author: Author) -> dict[str, Any]:
    """Pause, resume or cancel; returns the entry. Once this has answered, no batch of a paused one commits.

    Repeating a change is harmless. Raises `UnknownReplay`, `InvalidTransition`.
    """
    state, allowed_from = VERBS[verb]
    async with connection.transaction():
        await transaction_lock(connection, Lock.REPLAY_STEP, "exclusive", str(replay))
        before = await connection.fetchval(_STATE_OF_REPLAY, replay)
        if before is None:
            raise UnknownReplay(f"the ledger has no replay {replay}")
        if before != state and before not in allowed_from:
            raise InvalidTransition(f"replay {replay} is {before}: it can't {verb} from there")
        await audit.note(connection, author.operator, f"replay.{verb}", author.reason, replay=str(replay), was=before)
        if before != state:
            await connection.execute(_SET_STATE, replay, state)
    return await show_replay(connection, replay)


def is_beginning(name: str) -> bool:
    """True if a replay's id could be this, or begin with it."""
    return _BEGINNING.fullmatch(name.replace("-", "").lower()) is not None


async def find_replay(connection: Connection, name: str) -> uuid.UUID:
    """The replay whose id this is, or begins with. Raises `UnknownReplay`, and `InvalidSelection` where several do."""
    digits = name.replace("-", "").lower()
    if not is_beginning(name):
        raise UnknownReplay(f"the ledger has no replay {name[:40]!r}: ids are hexadecimal")
    bounds = uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))
    found = [row["id"] for row in await connection.fetch(_REPLAYS_BY_PREFIX, *bounds, _SHOWN + 1)]
    if not found:
        raise UnknownReplay(f"the ledger has no replay {name}")
    if len(found) > 1:
        more = " and others" if len(found) > _SHOWN else ""
        raise InvalidSelection(f"several replays begin with {name}: {', '.join(found[:_SHOWN])}{more}; give more of it")
    return uuid.UUID(found[0])


async def list_replays(connection: Connection, limit: int) -> list[dict[str, Any]]:
    return [_entry(row) for row in await connection.fetch(_LIST_REPLAYS, limit)]


async def show_replay(connection: Connection, replay: uuid.UUID) -> dict[str, Any]:
    """The entry, with its partitions and what of its selection is gone. Raises `UnknownReplay`."""
    row = await connection.fetchrow(_SHOW_REPLAY, replay)
    if row is None:
        raise UnknownReplay(f"the ledger has no replay {replay}")
    return {
        **_entry(row),
        "partitions": [dict(part) for part in await connection.fetch(_LIST_PROGRESS, replay)],
        "gone": orjson.loads(await connection.fetchval(_GONE_OF_REPLAY, replay)),
    }


async def brief(connection: Connection, replay: uuid.UUID) -> dict[str, Any]:
    """The entry alone, for who asks often."""
    row = await connection.fetchrow(_SHOW_REPLAY, replay)
    if row is None:
        raise UnknownReplay(f"the ledger has no replay {replay}")
    return _entry(row)


def _entry(row: Any) -> dict[str, Any]:
    target = row["target"]
    return {
        **row,
        "id": str(row["id"]),
        "selection": orjson.loads(row["selection"]),
        "target": None if target is None else orjson.loads(target),
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
