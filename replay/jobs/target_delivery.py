"""Records on their way to a target; what became of them is noted in one transaction with the progress.

Must not know where a target is, or how it is reached.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from processors.outcome import RawRecord
from replay.ports import Connection, NoteOutcomes, TargetSender
from schemas.errors import Unavailable


class Sent(NamedTuple):
    """The counts of a batch at its target."""

    failed: int


class TargetDelivery:
    """Sends what a replay selects to its target."""

    def __init__(
        self,
        target: TargetSender,
        note: NoteOutcomes,
        replay: uuid.UUID,
        may_send: Callable[[Connection], Awaitable[bool]],
    ) -> None:
        self._target = target
        self._note = note
        self._replay = replay
        self._may_send = may_send

    def fold(self, raw: RawRecord) -> RawRecord:
        """The record as it is."""
        return raw

    async def commit(
        self,
        connection: Connection,
        records: Sequence[RawRecord],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Sent], Awaitable[None]],
    ) -> Sent:
        """Sent records are noted even if the replay was paused meanwhile; nothing is sent after that."""
        if not await self._may_send(connection):
            return Sent(0)
        taken = await self._target.take(records) if records else []
        if len(taken) != len(records):
            raise Unavailable(f"the target answered for {len(taken)} of {len(records)} records")
        sent = Sent(sum(one.outcome == "failed" for one in taken))
        async with connection.transaction():
            await first()
            await self._note(connection, self._replay, list(zip(records, taken, strict=True)))
            await last(sent)
        return sent
