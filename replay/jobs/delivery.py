"""A target in the place of the projections: records go there, and what became of them stands with the progress.

Must not know where a target is, or how it is reached.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from replay.ports import Connection, NoteOutcomes, Outcome, RawRecord, Target
from replay.selection.matcher import Fold
from schemas.errors import Unavailable
from schemas.lattice import Row, Table


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a batch brought to its target. Nothing of ours changed."""

    failed: int
    events: int = 0
    rows_changed: int = 0
    dead: int = 0
    dead_records: int = 0
    letters: tuple[()] = ()


class Parcel(NamedTuple):
    """A record as it is. `fold` says what it means, where only its events can tell whether it is selected."""

    raw: RawRecord
    fold: Fold

    @property
    def types(self) -> tuple[str, ...]:
        return self.fold(self.raw).types

    @property
    def rows(self) -> tuple[tuple[Table[Any], Row], ...]:
        return ()


class Delivery:
    """Sends what a replay selects to its target."""

    def __init__(
        self,
        target: Target,
        note: NoteOutcomes,
        replay: uuid.UUID,
        fold: Fold,
        may_send: Callable[[Connection], Awaitable[bool]],
    ) -> None:
        self._target = target
        self._note = note
        self._replay = replay
        self._fold = fold
        self._may_send = may_send

    def fold(self, raw: RawRecord) -> Parcel:
        return Parcel(raw, self._fold)

    async def commit(
        self,
        connection: Connection,
        records: Sequence[Parcel],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Outcome], Awaitable[None]],
    ) -> Outcome:
        """What was sent is noted even if the replay was paused meanwhile; nothing is sent after that."""
        if not await self._may_send(connection):
            return Delivered(0)
        raws = [one.raw for one in records]
        taken = await self._target.take(raws) if raws else []
        if len(taken) != len(raws):
            raise Unavailable(f"the target answered for {len(taken)} of {len(raws)} records")
        delivered = Delivered(sum(one.outcome == "failed" for one in taken))
        async with connection.transaction():
            await first()
            await self._note(connection, self._replay, list(zip(raws, taken, strict=True)))
            await last(delivered)
        return delivered
