"""What replay needs of others, as protocols: the same projections and store that the live workers use are wired in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias
from uuid import UUID

import asyncpg

from replay.selection.selection import Range
from schemas.corrections import Correction
from schemas.envelope import Identity, KafkaHeaders, Location, VerifiedDelivery
from schemas.lattice import Row, Table
from schemas.settings import Source

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class RawRecord(Protocol):
    """A Kafka client's record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders


class Reading(Protocol):
    """The log, read in batches."""

    def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        """(the part of the log that the batch covers, its records); the parts of a partition follow one another."""
        ...


class Log(Reading, Protocol):
    """The log, read from its start."""

    async def extents(self, partitions: set[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """{partition: (log start, log end)}; without those that are gone."""
        ...

    async def folded_extents(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The same of every topic that is folded; without partitions that have no leader."""
        ...


class FoldedRecord(Protocol):
    """What one record means. `types` are its CloudEvents type and the types of its events; `rows` what it says of which
    row of which table: nothing, for one that is dead.
    """

    @property
    def raw(self) -> RawRecord: ...

    @property
    def types(self) -> tuple[str, ...]: ...

    @property
    def rows(self) -> tuple[tuple[Table[Any], Row], ...]: ...


class NamedRecord(FoldedRecord, Protocol):
    """A record whose events are named."""

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        """(source, event id) of each, the dead ones too, as the index has them."""
        ...


class PartialRecord(FoldedRecord, Protocol):
    """A record of which some events can be written alone."""

    @property
    def record_id(self) -> str: ...

    def only(self, wanted: Mapping[int, str]) -> FoldedRecord:
        """Without its other events: `wanted` are ordinals, with the ids of the events there."""
        ...


class DeadEvent(Protocol):
    """A row of the index."""

    @property
    def source(self) -> str: ...

    @property
    def event_id(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def received_at(self) -> datetime: ...


class Letter(Protocol):
    """An event that no projection could apply, and why. `ordinal` is its place in the record, 0 for the record."""

    @property
    def raw(self) -> Any: ...

    @property
    def ordinal(self) -> int: ...

    @property
    def event(self) -> DeadEvent: ...

    @property
    def reason(self) -> str: ...

    @property
    def message(self) -> str: ...


class Outcome(Protocol):
    """What a committed batch did. `letters` are its dead ones."""

    @property
    def letters(self) -> Sequence[Letter]: ...

    @property
    def events(self) -> int: ...

    @property
    def rows_changed(self) -> int: ...

    @property
    def dead(self) -> int: ...

    @property
    def dead_records(self) -> int:
        """Records of which every event is dead."""
        ...


class Folding(Protocol):
    """The projections, and the store of the facts in one schema."""

    def fold(self, raw: RawRecord) -> FoldedRecord: ...

    async def commit(
        self,
        connection: Connection,
        records: Sequence[Any],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Outcome], Awaitable[None]],
    ) -> Outcome:
        """One transaction: `first`, the rows, `last`."""
        ...


class GenerationFolding(Folding, Protocol):
    """Those of one generation."""

    generation: int

    def fold(self, raw: RawRecord) -> PartialRecord: ...


AppendCorrection = Callable[[Correction], Awaitable[Location]]
"""Puts a correction on the log; returns where it is, once it is durable. Raises `Unavailable`."""

Append = Callable[[Sequence[tuple[Source, VerifiedDelivery, Identity]]], Awaitable[Sequence[Location]]]
"""Puts verified deliveries on the topics of their sources; returns where they are, once all of them are durable."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one record at a target. `status` is the answer's, where the target gives one."""

    outcome: Literal["delivered", "failed"]
    status: int | None = None
    attempts: int = 1
    error: str | None = None


class Target(Protocol):
    """Where a replay sends records other than to the projections. Opened before the first batch, closed at the end."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def portion(self) -> int | None:
        """How many records it is given at once; None: as many as there are."""
        ...

    async def take(self, records: Sequence[RawRecord]) -> Sequence[Taken]:
        """One outcome per record, in their order; it is noted together with the progress, so that a batch may come
        again. Raises `Unavailable` where the target as a whole is away and a retry helps.
        """
        ...


OpenTarget = Callable[[Mapping[str, Any], UUID], Target]
"""The target of a replay from its document, as the ledger keeps it. Raises `InvalidSelection`."""

RequireTarget = Callable[[object], Awaitable[Mapping[str, Any] | None]]
"""The document for the ledger, of what an operator gave; None is the projections. Raises `InvalidSelection` for what
can't be a target, or may not.
"""

NoteOutcomes = Callable[[Connection, UUID, Sequence[tuple[RawRecord, Taken]]], Awaitable[None]]
"""Writes down, in the caller's transaction, what became of a replay's records at its target."""

Projections = Mapping[str, tuple[int, frozenset[str]]]
"""Projection -> (its version, the fact tables that its rows go to)."""

Foldings = Callable[[str, frozenset[str] | None], Folding]
"""(schema, tables to write; None: all)."""
