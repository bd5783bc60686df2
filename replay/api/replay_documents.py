"""The answers of the operators' routes of replays. Must not route."""

from datetime import datetime
from typing import Any, Literal

from replay.jobs.ledger import ReplayState
from schemas.openapi import Document


class GoneEntry(Document):
    """Records that the selection means and the log does not hold."""

    topic: str
    partition: int
    first: int
    last: int
    records: int
    why: Literal["dropped", "lost", "absent"]


class RecordOutcome(Document):
    """The outcome of one record at the target. `status`: the answer's."""

    topic: str
    partition: int
    record_offset: int
    outcome: Literal["delivered", "failed"]
    status: int | None
    attempts: int
    error: str | None
    at: datetime


class OutcomeList(Document):
    outcomes: list[RecordOutcome]
    cursor: str | None


class PlannedRange(Document):
    topic: str
    partition: int
    start: int
    end: int
    records: int


class ReplayPlan(Document):
    """A dry run. `left_to_live` counts offsets that live workers have not reached; `unknown_event_ids` are not in the
    index; `diff` was asked for, or is null. `types` counts 1000 of them by name, and the others as `(other types)`.
    """

    dry_run: bool
    selection: dict[str, Any]
    target: dict[str, Any] | None
    records: int
    types: dict[str, int]
    ranges: list[PlannedRange]
    first_arrival: datetime | None
    last_arrival: datetime | None
    left_to_live: int
    gone: list[GoneEntry]
    records_gone: int
    unknown_event_ids: list[str]
    diff: dict[str, Any] | None = None


class Replay(Document):
    """An entry of the ledger. `progress` is from 0 to 1; `slowed_by` says why it is slow, or what it waits for."""

    id: str
    state: ReplayState
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
    gone: list[GoneEntry]


class ReplayList(Document):
    replays: list[Replay]
