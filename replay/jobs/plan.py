"""A replay, before it runs: which offsets, how many records of which types, what is left to the live workers."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, LiteralString

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from processors.outcome import RawRecord
from replay.log.reader import LogReader
from replay.log.topic_ids import Logs
from replay.ports import Connection
from replay.selection.event_index import MAX_LOCATED, Gone, gone_from, locate_dead, locate_events, named_events
from replay.selection.matcher import Fold, Matcher, type_of
from replay.selection.offsets import Offsets, common, count, decode, encode, merged, partition_of, split
from replay.selection.row_lookup import locate_touching
from replay.selection.selection import Range, Selection, iso_of
from schemas.errors import InvalidSelection, NothingSelected
from schemas.masking import mask_id
from schemas.topics import TopicPartition

_LIVE_POSITIONS: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = (SELECT live FROM redrive.generation)
"""
SKIPPED_OFFSETS: Final = 500
"""To read through so many that are not wanted is faster than to seek past them."""

CLOCK_SLACK_MS: Final = 3_600_000
"""How far a provider's clock may be ahead of ours."""

MAX_TYPES: Final = 1000
MAX_TYPE_CHARACTERS: Final = 200
OTHER_TYPES: Final = "(other types)"
"""The types that a plan counts together: senders name the types, and another program may write to the topic."""


@dataclass(slots=True)
class Plan:
    """`ranges` are what a run reads: below the live positions, because the rest belongs to the live workers."""

    selection: Selection
    ranges: list[Range]
    matcher: Matcher
    gone: list[Gone] = field(default_factory=list)
    left_to_live: int = 0
    unknown_events: list[str] = field(default_factory=list)
    """Selected by their ids, and not in the index: where they lie nobody knows."""
    logs: Logs = field(default_factory=dict)
    """The logs of the offsets."""
    records: int = 0
    types: Counter[str] = field(default_factory=Counter)
    per_partition: Counter[TopicPartition] = field(default_factory=Counter)
    first_ms: int | None = None
    last_ms: int | None = None

    @property
    def offsets(self) -> int:
        """How many offsets a run reads, selected or not: what its progress counts."""
        return count(self.ranges)

    @property
    def records_gone(self) -> int:
        return sum(one.records for one in self.gone)

    def add(self, record: RawRecord) -> None:
        self.records += 1
        kind = type_of(record)
        is_listed = kind in self.types or (len(self.types) < MAX_TYPES and len(kind) <= MAX_TYPE_CHARACTERS)
        self.types[kind if is_listed else OTHER_TYPES] += 1
        self.per_partition[record.topic, record.partition] += 1
        self.first_ms = record.timestamp if self.first_ms is None else min(self.first_ms, record.timestamp)
        self.last_ms = record.timestamp if self.last_ms is None else max(self.last_ms, record.timestamp)

    def as_document(self) -> dict[str, Any]:
        return {
            "selection": self.selection.as_document(),
            "records": self.records,
            "types": dict(sorted(self.types.items())),
            "ranges": [
                {
                    "topic": part.topic,
                    "partition": part.partition,
                    "start": part.start,
                    "end": part.end,
                    "records": self.per_partition[partition_of(part)],
                }
                for part in self.ranges
            ],
            "first_arrival": iso_of(self.first_ms),
            "last_arrival": iso_of(self.last_ms),
            "left_to_live": self.left_to_live,
            "gone": [one.as_document() for one in self.gone],
            "records_gone": self.records_gone,
            "unknown_event_ids": self.unknown_events,
        }

    def require_records(self) -> None:
        """A selection by ids must find something: an empty result is an error. Raises `NothingSelected`."""
        if self.records or self.left_to_live or not any(one.event_ids for one in self.selection.choices):
            return
        unknown = ", ".join(mask_id(text) for text in self.unknown_events[:10])
        why = f"not in the index: {unknown}" if unknown else "the index or the log holds none of these events"
        raise NothingSelected(f"no record is selected; {why}. Name the offsets, or a window")

    def pin(self) -> dict[str, Any]:
        """The part of the plan that a runner needs besides the selection."""
        return {"ranges": encode(self.ranges), "located": self.matcher.as_document()}


def _in_pairs(bounds: list[int]) -> list[int]:
    if len(bounds) % 2 or any(start >= end for start, end in zip(bounds[::2], bounds[1::2], strict=True)):
        raise ValueError("expected pairs of start and end")
    return bounds


_Offset = Annotated[int, Field(ge=0, lt=2**63)]
_Bounds = Annotated[list[_Offset], AfterValidator(_in_pairs)]
_Ranges = dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}:[0-9]{1,9}$")], _Bounds]


class _Pinned(BaseModel):
    """The document that `Plan.pin` writes."""

    model_config = ConfigDict(strict=True, extra="forbid")
    ranges: _Ranges
    located: list[_Ranges | None]


def unpinned(selection: Selection, document: object) -> Plan:
    """The plan of a ledger's row, without its counts. Raises `InvalidSelection` for what `Plan.pin` did not write."""
    try:
        found = _Pinned.model_validate(document)
    except ValidationError as error:
        raise InvalidSelection("the stored plan was written by another version of redrive") from error
    if len(found.located) != len(selection.choices):
        raise InvalidSelection("the stored plan belongs to another selection")
    return Plan(selection, decode(found.ranges), Matcher.pinned(selection, found.located))


async def bound_by_live(connection: Connection, ranges: Sequence[Range]) -> tuple[list[Range], int]:
    """Cut the ranges at the live positions; returns them and how many offsets were cut off."""
    _, kept, cut = split(ranges, {}, await live_positions(connection))
    return kept, count(cut)


async def live_positions(connection: Connection) -> dict[TopicPartition, int]:
    rows = await connection.fetch(_LIVE_POSITIONS)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


class _Planning:
    """The look-ups of one plan."""

    def __init__(self, reader: LogReader, connection: Connection, fold: Fold) -> None:
        self._reader = reader
        self._connection = connection
        self._fold = fold
        self.gone: list[Gone] = []
        self.unknown_events: list[str] = []

    async def candidates(self, selection: Selection) -> tuple[Offsets | None, list[Range]]:
        """The only offsets that a selection can mean, None where a window is read through; and what to read for it."""
        starts, ends = await self._bounds(selection.topics)
        if not selection.has_locations:
            self.gone += await gone_from(self._connection, selection, starts)
            return None, await self._window(selection, starts, ends)
        located = merged(await self._located(selection, starts, ends))
        if len(located) > MAX_LOCATED:
            raise InvalidSelection(f"more than {MAX_LOCATED} separate offsets: narrow it, or name a window")
        below, kept, past = split(located, starts, ends)
        self.gone += [Gone(part, len(part), "dropped") for part in below]
        self.gone += [Gone(part, len(part), "absent") for part in past]
        return Offsets(kept), merged(kept, SKIPPED_OFFSETS)

    async def _bounds(self, topics: Sequence[str]) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """The log's starts and ends. A topic that is gone ends where it was folded to, and starts there: all of it is
        dropped, and the other topics are planned.
        """
        starts, ends = await self._reader.bounds(topics)
        gone = set(topics) - {topic for topic, _ in starts}
        folded = {place: at for place, at in (await live_positions(self._connection)).items() if place[0] in gone}
        return {**starts, **folded}, {**ends, **folded}

    async def _window(
        self, selection: Selection, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> list[Range]:
        """From the first offset that may be meant to the log's end: later offsets can carry earlier times."""
        since = starts
        if selection.from_ms is not None:
            slack = CLOCK_SLACK_MS if selection.by == "event" else 0
            since = await self._reader.since(selection.topics, selection.from_ms - slack)
        found = [Range(*place, max(at, starts[place]), ends[place]) for place, at in sorted(since.items())]
        return [part for part in found if len(part)]

    async def _located(
        self, selection: Selection, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> list[Range]:
        """The offsets that every criterion with offsets selects."""
        sets: list[list[Range]] = []
        if selection.offsets:
            await self._require(selection.offsets, starts)
            sets.append(merged(selection.offsets))
        if selection.event_ids:
            named = await named_events(self._connection, selection.sources, selection.event_ids)
            sets.append(merged(await locate_events(self._connection, [one for ids in named.values() for one in ids])))
            self.unknown_events += sorted(set(selection.event_ids) - set(named))
        if selection.dead_letters:
            sets.append(merged(await locate_dead(self._connection, selection)))
        if selection.keys:
            window, _ = await bound_by_live(self._connection, await self._window(selection, starts, ends))
            self.gone += await gone_from(self._connection, selection, starts)
            found = await locate_touching(self._reader, self._connection, selection.keys, (window, self._fold))
            sets.append(merged(found))
        located = sets[0]
        for other in sets[1:]:
            located = common(located, other)
        return located

    async def _require(self, offsets: Sequence[Range], starts: Mapping[TopicPartition, int]) -> None:
        if unknown := [f"{r.topic}:{r.partition}" for r in offsets if partition_of(r) not in starts]:
            raise InvalidSelection(f"there is no partition {', '.join(unknown)}")


async def make_plan(
    reader: LogReader, connection: Connection, selection: Selection, fold: Fold, advance: Callable[[int, int], None]
) -> Plan:
    """Look the offsets up, read the ranges and count. `advance(done, of)` hears how many offsets were read.

    Raises `InvalidSelection`, and `RecordsGone` where a topic is deleted meanwhile.
    """
    # Before the offsets: of a topic that is created again in between, they are held to a log that is gone.
    logs = await reader.logs({topic for one in selection.choices for topic in one.topics})
    planning = _Planning(reader, connection, fold)
    choices, ranges = [], []
    for one in selection.choices:
        candidates, found = await planning.candidates(one)
        choices.append((one, candidates))
        ranges += found
    kept, left = await bound_by_live(connection, merged(ranges, SKIPPED_OFFSETS))
    plan = Plan(selection, kept, Matcher(choices), planning.gone, left, planning.unknown_events, logs)
    done = 0
    if kept:
        async for part, records in reader.read(kept, logs):
            for record in records:
                if plan.matcher.is_selected(record, fold):
                    plan.add(record)
            done += len(part)
            advance(done, plan.offsets)
            # A plan over HTTP shares its process with other requests.
            await asyncio.sleep(0)
    return plan
