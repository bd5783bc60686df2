"""Replays as the description of the operators' service says them. Must not route."""

from datetime import datetime
from typing import Any, Literal

from replay.ledger import State
from replay.selection_document import SelectionDocument
from schemas.openapi import Document


class Gone(Document):
    """Records that the selection means and the log does not hold."""

    topic: str
    partition: int
    first: int
    last: int
    records: int
    why: Literal["dropped", "lost", "absent"]


class ReplayOrder(SelectionDocument):
    """The selection's fields, here or in `selection`; and what is to be done with it. No target: the projections."""

    selection: SelectionDocument | None = None
    reason: str | None = None
    dry_run: bool = False
    diff: bool = False
    rate: float | None = None
    target: dict[str, Any] | None = None


class PlannedRange(Document):
    topic: str
    partition: int
    start: int
    end: int
    records: int


class ReplayPlan(Document):
    """A dry run. `left_to_live` counts offsets that live workers have not reached; `diff` was asked for, or is null."""

    dry_run: bool
    selection: dict[str, Any]
    records: int
    types: dict[str, int]
    ranges: list[PlannedRange]
    first_arrival: datetime | None
    last_arrival: datetime | None
    left_to_live: int
    gone: list[Gone]
    records_gone: int
    diff: dict[str, Any] | None = None


class Replay(Document):
    """An entry of the ledger. `progress` is from 0 to 1; `slowed_by` says why it is slow, or what it waits for."""

    id: str
    state: State
    slowed_by: str | None
    selection: dict[str, Any]
    target: dict[str, Any] | None
    rate: float | None
    generation: int
    operator: str
    reason: str
    total: int
    records: int
    events: int
    rows_changed: int
    dead: int
    failed: int
    records_gone: int
    left_to_live: int
    progress: float
    runner: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ReplayPart(Document):
    topic: str
    partition: int
    next_offset: int
    end_offset: int
    offsets: int
    done: int
    records: int


class ShownReplay(Replay):
    partitions: list[ReplayPart]
    gone: list[Gone]


class ReplayList(Document):
    replays: list[Replay]
