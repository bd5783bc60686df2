"""The rest of a batch, and in it the event that ends every session of Postgres that writes it.

An outage ends sessions, too, and must never make a dead letter. The worker therefore gives up an event only after it
ended `LOSSES` sessions in a row, alone in its transaction. Each connection had just committed the same transaction
without the event, the server was not restarted since, and it commits once more afterwards.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, LiteralString

from processors.failures import SessionLost, TableAtFault, is_loss
from processors.fold import dead_event
from processors.outcome import Folded, RawRecord
from processors.partition_state import Batch
from processors.store import Connection, Span, Store
from schemas.errors import PoisonRecord

STARTED: Final[LiteralString] = "SELECT pg_postmaster_start_time()"

BATCH_LOSSES: Final = 3
"""In a row, of a batch, before it is written in parts. A split that an outage caused harms nothing."""

LOSSES: Final = 8
"""In a row, of one event. They take seconds, because of the back-off between them."""

IN_A_ROW: Final = 3
"""Events of one table that are given up while it takes no other: with more of them, the table is at fault."""


class Tables:
    """How many events of each fact table were given up since it took one, over all partitions of a worker."""

    def __init__(self) -> None:
        self._given_up: Counter[str] = Counter()

    def took(self, folded: Iterable[Folded]) -> None:
        if self._given_up:
            for name in _tables_of(folded):
                del self._given_up[name]

    def at_fault(self, one: Folded) -> str | None:
        """The first table that is, rather than the event."""
        return next((name for name in sorted(_tables_of([one])) if self._given_up[name] >= IN_A_ROW), None)

    def gave_up(self, one: Folded) -> None:
        self._given_up.update(_tables_of([one]))


def _tables_of(folded: Iterable[Folded]) -> set[str]:
    return {table.name for one in folded for table, _ in one.rows}


@dataclass(slots=True)
class Part:
    """Records of a batch that are committed together, and how often in a row their session was lost."""

    records: Sequence[RawRecord]
    span: Span
    losses: int = 0

    def halves(self) -> "tuple[Part, Part]":
        middle = len(self.records) // 2
        between = self.records[middle].offset
        first = Part(self.records[:middle], replace(self.span, end=between), self.losses - 1)
        return first, Part(self.records[middle:], replace(self.span, start=between), self.losses - 1)


class Remainder:
    """The parts of a batch that are not committed, in the order of their offsets."""

    def __init__(self, batch: Batch, tables: Tables) -> None:
        span = Span(*batch.tp, batch.start, batch.end, batch.reading.topic_id)
        self._parts = deque([Part(batch.records, span)])
        self._tables = tables
        self._suspects: _Suspects | None = None

    @property
    def next(self) -> Part | None:
        return self._parts[0] if self._parts else None

    async def without_poison(
        self, store: Store, connection: Connection, part: Part, folded: Sequence[Folded]
    ) -> Sequence[Folded]:
        """The part without events that end their sessions. Raises `SessionLost`, or what `commit_batch` raises."""
        if part.losses < BATCH_LOSSES or len(folded) > 1:
            return folded
        if self._suspects is None:
            self._suspects = _Suspects(len(folded[0].events), self._tables)
        return [await self._suspects.leave_out(store, connection, part.span, folded[0])]

    def committed(self, folded: Iterable[Folded]) -> None:
        """Drop the next part, which is committed."""
        self._parts.popleft()
        self._suspects = None
        self._tables.took(folded)

    def failed(self, connection: Connection, error: BaseException) -> None:
        """Note that the next part failed; split it if its sessions end."""
        if isinstance(error, SessionLost) or not is_loss(error, connection):
            return
        part = self._parts[0]
        part.losses += 1
        # Its events may all be well by themselves.
        self._suspects = None
        if part.losses >= BATCH_LOSSES and len(part.records) > 1:
            self._parts.popleft()
            self._parts.extendleft(reversed(part.halves()))


class _Suspects:
    """The events of one record, tried in groups and at last alone. `count`: how many they are."""

    def __init__(self, count: int, tables: Tables) -> None:
        self._groups = deque([range(count)] if count else [])
        self._tables = tables
        self._dead: set[int] = set()
        self._losses = 0
        """In a row, of the first group, by the server that started then."""
        self._started: datetime | None = None

    async def leave_out(self, store: Store, connection: Connection, span: Span, record: Folded) -> Folded:
        """The record with dead letters for the events that end their sessions.

        Raises `SessionLost` as long as there is one of which that is not certain.
        """
        events = record.split()
        while self._groups:
            group = self._groups[0]
            await self._require_answer(store, connection, span)
            found = [events[number] for number in group]
            table = self._tables.at_fault(found[0])
            if self._losses >= LOSSES and table is None:
                self._give_up(found[0], group[0])
                continue
            try:
                await store.try_batch(connection, span, found)
            except Exception as error:
                if not is_loss(error, connection):
                    raise
                self._lost(group)
                if self._losses > LOSSES and table is not None:
                    raise TableAtFault(table) from error
                raise SessionLost from error
            self._tables.took(found)
            self._groups.popleft()
            self._losses = 0
        letters = [dead_event(events[number], _POISON) for number in sorted(self._dead)]
        left = [number for number in range(len(events)) if number not in self._dead]
        return record._replace(
            events=tuple([record.events[number] for number in left]),
            rows_of=tuple([record.rows_of[number] for number in left]),
            letters=(*record.letters, *letters),
        )

    async def _require_answer(self, store: Store, connection: Connection, span: Span) -> None:
        """The same transaction without the events, and committed: the server writes, and is the one of before."""
        started = await connection.fetchval(STARTED)
        await store.commit_batch(connection, replace(span, end=span.start), [])
        if started != self._started:
            self._started, self._losses = started, 0

    def _lost(self, group: range) -> None:
        if len(group) == 1:
            self._losses += 1
            return
        middle = len(group) // 2
        self._groups.popleft()
        self._groups.extendleft((group[middle:], group[:middle]))

    def _give_up(self, event: Folded, number: int) -> None:
        self._tables.gave_up(event)
        self._dead.add(number)
        self._groups.popleft()
        self._losses = 0


_POISON: Final = PoisonRecord(
    "connection_lost", f"Postgres ended each of {LOSSES} sessions in a row that wrote this event alone"
)
