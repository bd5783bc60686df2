"""Folds dead letters again, with today's projections: what can be applied now turns from dead to applied.

A replay of single records: it adds what is missing, writes no positions, leaves what is above them to the live workers,
and gives way to live traffic. What fails again keeps its history.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, LiteralString

from replay import audit, metrics
from replay.audit import Author
from replay.live_traffic import Lag, LiveTraffic
from replay.operations.dead_letters import NEXT, DeadLetters
from replay.plan import bound_by_live
from replay.ports import Connection, GenerationFolding, Outcome
from replay.ranges import merged
from replay.selection import Range
from replay.window import NEAR_OFFSETS, LogReader
from schemas.errors import Unavailable

ACTION: Final = "dead_letters.requeue"
PAGE: Final = 1000
PORTION_RECORDS: Final = 200

_TRY_LOCK: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtext('redrive.requeue'))"
_UNLOCK: Final[LiteralString] = "SELECT pg_advisory_unlock(hashtext('redrive.requeue'))"
_HOLD: Final[LiteralString] = "SELECT pg_advisory_xact_lock_shared(hashtext('redrive.generation'))"
_LIVE: Final[LiteralString] = "SELECT live FROM redrive.generation"
_NOTE: Final[LiteralString] = """
    INSERT INTO redrive.requeues AS known (
        topic, partition, record_offset, source, event_id, provider, type, received_at, first_error, attempts, outcome,
        last_error, operator
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12)
    ON CONFLICT (topic, partition, record_offset, ordinal) DO UPDATE
    SET attempts = known.attempts + 1, outcome = EXCLUDED.outcome, last_at = now(), operator = EXCLUDED.operator,
        last_error = coalesce(EXCLUDED.last_error, known.last_error)
"""

Place = tuple[str, int, int]
"""(topic, partition, offset)."""


@dataclass(slots=True)
class Requeued:
    """What a requeue did, or in a dry run would do. `gone`: the log no longer holds the record."""

    revived: int = 0
    dead: int = 0
    gone: int = 0
    left_to_live: int = 0


class RolledBack(Exception):
    """Ends a transaction whose effect was only to be seen."""


async def hold_live(connection: Connection, generation: int) -> None:
    """Until the transaction's end. Raises `Unavailable` once another generation is live."""
    await connection.execute(_HOLD)
    if await connection.fetchval(_LIVE) != generation:
        raise Unavailable("another generation went live; try again")


class Requeue:
    """One requeue. Without an author it is a dry run: everything is tried, and taken back."""

    def __init__(
        self, connection: Connection, reader: LogReader, folding: GenerationFolding, author: Author | None
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._folding = folding
        self._author = author
        self._done = Requeued()
        self._live = LiveTraffic(Lag(connection, reader.ends).read, _unheard)

    async def run(self, wanted: DeadLetters, advance: Callable[[int], None]) -> Requeued:
        """On record before the first, and with its outcome. `advance` hears letters done.

        Raises `Unavailable`, and `InvalidSelection` for an author that the audit can't take.
        """
        if not await self._connection.fetchval(_TRY_LOCK):
            raise Unavailable("another requeue is under way; wait for its end")
        try:
            await self._note("begun", wanted)
            outcome = "failed"
            try:
                await self._requeue(wanted, advance)
                outcome = "done"
            finally:
                await self._note(outcome, wanted, **asdict(self._done))
            return self._done
        finally:
            await self._connection.execute(_UNLOCK)

    async def _note(self, outcome: str, wanted: DeadLetters, **counts: int) -> None:
        if self._author is not None:
            operator, reason = self._author
            asked = wanted.as_document()
            await audit.note(self._connection, operator, ACTION, reason, asked=asked, outcome=outcome, **counts)

    async def _requeue(self, wanted: DeadLetters, advance: Callable[[int], None]) -> None:
        after: Place = ("", 0, 0)
        while letters := await self._connection.fetch(NEXT, *wanted.parameters(), *after, PAGE):
            after = _place(letters[-1])
            await self._requeue_page({_place(row): row for row in letters})
            advance(len(letters))

    async def _requeue_page(self, letters: dict[Place, Any]) -> None:
        held, missing = await self._reader.held([Range(*place, place[2] + 1) for place in letters])
        await self._note_gone([letters[part.topic, part.partition, part.start] for part in missing])
        kept, left = await bound_by_live(self._connection, held)
        self._done.left_to_live += left
        if not kept:
            return
        found = {(part.topic, part.partition, part.start) for part in kept}
        async for part, records in self._reader.read(merged(kept, NEAR_OFFSETS)):
            selected = [one for one in records if (one.topic, one.partition, one.offset) in found]
            read = {(one.topic, one.partition, one.offset) for one in selected}
            covered = {place for place in found if place[:2] == (part.topic, part.partition)}
            # Offsets that hold nothing any more, as after a compaction.
            empty = {place for place in covered - read if part.start <= place[2] < part.end}
            await self._note_gone([letters[place] for place in sorted(empty)])
            for first in range(0, len(selected), PORTION_RECORDS):
                await self._live.give_way()
                await self._fold(selected[first : first + PORTION_RECORDS], letters)

    async def _fold(self, records: Sequence[Any], letters: dict[Place, Any]) -> None:
        errors: dict[Place, str] = {}

        async def first() -> None:
            await hold_live(self._connection, self._folding.generation)

        async def last(outcome: Outcome) -> None:
            errors.update({_place_of(one.raw): f"{one.reason}: {one.message}" for one in outcome.letters})
            for record in records:
                place = _place_of(record)
                await self._note_try(letters[place], "dead" if place in errors else "revived", errors.get(place))

        await self._commit([self._folding.fold(record) for record in records], first, last)
        revived = len(records) - len(errors)
        self._done.dead += len(errors)
        self._done.revived += revived
        if self._author is not None:
            metrics.letters_requeued(revived, len(errors))

    async def _commit(
        self, folded: Sequence[Any], first: Callable[[], Awaitable[None]], last: Callable[[Outcome], Awaitable[None]]
    ) -> None:
        try:
            async with self._connection.transaction():
                await self._folding.commit(self._connection, folded, first, last)
                if self._author is None:
                    raise RolledBack
        except RolledBack:
            return

    async def _note_gone(self, letters: Sequence[Any]) -> None:
        self._done.gone += len(letters)
        for letter in letters:
            await self._note_try(letter, "gone", None)

    async def _note_try(self, letter: Any, outcome: str, error: str | None) -> None:
        if self._author is None:
            return
        known = (letter[name] for name in ("source", "event_id", "provider", "type", "received_at", "first_error"))
        await self._connection.execute(_NOTE, *_place(letter), *known, outcome, error, self._author.operator)


def _place(letter: Any) -> Place:
    return (letter["topic"], letter["partition"], letter["record_offset"])


def _place_of(record: Any) -> Place:
    return (record.topic, record.partition, record.offset)


async def _unheard(_: str | None) -> None:
    """Nobody watches why it is slow."""
