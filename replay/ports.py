"""The dependencies of replay, as protocols: the log, appends to it, and targets."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias
from uuid import UUID

import asyncpg

from processors.outcome import RawRecord
from replay.selection.selection import Range
from replay.targets.document import TargetDocument
from schemas.corrections import Correction
from schemas.envelope import Identity, Location, VerifiedDelivery
from schemas.settings import Source

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

Advance = Callable[[int, int], None]
"""Reports progress: (offsets done, of how many)."""


class BatchReader(Protocol):
    """The log, read in batches."""

    def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        """(the part of the log that the batch covers, its records); the parts of a partition follow one another."""
        ...


class Log(BatchReader, Protocol):
    """The log, read from its start."""

    async def extents(self, partitions: set[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """{partition: (log start, log end)}; without those that are gone."""
        ...

    async def folded_extents(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The same of every topic that is folded; without partitions that have no leader."""
        ...


AppendCorrection = Callable[[Correction], Awaitable[Location]]
"""Puts a correction on the log; returns where it is, once it is durable. Raises `Unavailable`."""

Append = Callable[[Sequence[tuple[Source, VerifiedDelivery, Identity]]], Awaitable[Sequence[Location]]]
"""Puts verified deliveries on the topics of their sources; returns where they are, once all of them are durable."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """The outcome of one record at a target. `status` is the answer's, if the target gives one."""

    outcome: Literal["delivered", "failed"]
    status: int | None = None
    attempts: int = 1
    error: str | None = None


class TargetSender(Protocol):
    """Where a replay sends records other than to the projections. Opened before the first batch, closed at the end."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def portion(self) -> int | None:
        """How many records it is given at once; None: as many as there are."""
        ...

    async def take(self, records: Sequence[RawRecord]) -> Sequence[SendResult]:
        """One outcome per record, in their order; it is noted together with the progress, so that a batch may come
        again. Raises `Unavailable` where the target as a whole is away and a retry helps.
        """
        ...


OpenTarget = Callable[[Mapping[str, Any], UUID], TargetSender]
"""The target of a replay from its document, as the ledger keeps it. Raises `InvalidSelection`."""

RequireTarget = Callable[[TargetDocument | None], Awaitable[Mapping[str, Any] | None]]
"""The document for the ledger; None is the projections. Raises `InvalidSelection` for what may not be a target."""

NoteOutcomes = Callable[[Connection, UUID, Sequence[tuple[RawRecord, SendResult]]], Awaitable[None]]
"""Writes down, in the caller's transaction, what became of a replay's records at its target."""
