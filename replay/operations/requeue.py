"""Folds dead letters again, with the current projections: events that apply now turn from dead to applied.

A replay of single events: the requested ones of a record and no others. It adds missing rows, writes no positions,
leaves records above them to the live workers, and gives way to live traffic. An event that fails again keeps its
history.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, LiteralString

from processors.outcome import Dead, Folded
from processors.store import LIVE_GENERATION, Written
from replay import audit, metrics
from replay.audit import Author
from replay.jobs.plan import bound_by_live
from replay.locks import Lock, advisory_lock, transaction_lock
from replay.log.live_traffic import Lag, LiveTraffic
from replay.log.reader import NEAR_OFFSETS, LogReader
from replay.operations.dead_letters import NEXT_DEAD_LETTERS, DeadLetterFilter
from replay.ports import Connection
from replay.selection.offsets import merged
from replay.selection.selection import Range
from replay.tables.folding import LiveFolding
from schemas.envelope import Location
from schemas.errors import Unavailable

ACTION: Final = "dead_letters.requeue"
PAGE: Final = 1000
PORTION_RECORDS: Final = 200
LAST_ORDINAL: Final = 2**31 - 1

_UPSERT_REQUEUE: Final[LiteralString] = """
    INSERT INTO redrive.requeues AS known (
        topic, partition, record_offset, ordinal, source, event_id, provider, type, received_at, first_error, attempts,
        outcome, last_error, operator
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $12, $13)
    ON CONFLICT (topic, partition, record_offset, ordinal) DO UPDATE
    SET attempts = known.attempts + 1, outcome = EXCLUDED.outcome, last_at = now(), operator = EXCLUDED.operator,
        last_error = coalesce(EXCLUDED.last_error, known.last_error)
"""

DeadLettersByRecord = dict[Location, dict[int, Any]]
"""Rows of dead letters, by their records and their ordinals there."""


@dataclass(slots=True)
class Requeued:
    """The result of a requeue, or of a dry run, in letters; for a record that was dead as a whole, `dead` counts its
    events that still are. `gone`: the log no longer holds the record.
    """

    revived: int = 0
    dead: int = 0
    gone: int = 0
    left_to_live: int = 0


_KNOWN: Final = ("ordinal", "source", "event_id", "provider", "type", "received_at", "first_error")


class RolledBack(Exception):
    """Ends a transaction whose effect was only to be seen."""


async def hold_live(connection: Connection, generation: int) -> None:
    """Until the transaction's end. Raises `Unavailable` once another generation is live."""
    await transaction_lock(connection, Lock.GENERATION, "shared")
    if await connection.fetchval(LIVE_GENERATION) != generation:
        raise Unavailable("another generation went live; try again")


class Requeue:
    """One requeue. Without an author it is a dry run: everything is tried, and taken back."""

    def __init__(self, connection: Connection, reader: LogReader, folding: LiveFolding, author: Author | None) -> None:
        self._connection = connection
        self._reader = reader
        self._folding = folding
        self._author = author
        self._done = Requeued()
        self._live = LiveTraffic(Lag(connection, reader.ends).read, _unheard)

    async def run(self, wanted: DeadLetterFilter, advance: Callable[[int], None]) -> Requeued:
        """On record before the first, and with its outcome. `advance` hears letters done.

        Raises `Unavailable`, and `InvalidSelection` for an author that the audit can't take.
        """
        async with advisory_lock(self._connection, Lock.REQUEUE, "try") as is_ours:
            if not is_ours:
                raise Unavailable("another requeue is under way; wait for its end")
            await self._note("begun", wanted)
            outcome = "failed"
            try:
                await self._requeue(wanted, advance)
                outcome = "done"
            finally:
                await self._note(outcome, wanted, **asdict(self._done))
            return self._done

    async def _note(self, outcome: str, wanted: DeadLetterFilter, **counts: int) -> None:
        if self._author is not None:
            operator, reason = self._author
            asked = wanted.as_document()
            await audit.note(self._connection, operator, ACTION, reason, asked=asked, outcome=outcome, **counts)

    async def _requeue(self, wanted: DeadLetterFilter, advance: Callable[[int], None]) -> None:
        after: tuple[Any, ...] = ("", 0, 0, 0)
        while rows := await self._connection.fetch(NEXT_DEAD_LETTERS, *wanted.parameters(), *after, PAGE):
            # A record that was dead as a whole is done whole: what it leaves behind it is not tried again.
            after = (*_location_of_letter(rows[-1]), rows[-1]["ordinal"] or LAST_ORDINAL)
            letters: DeadLettersByRecord = {}
            for row in rows:
                letters.setdefault(_location_of_letter(row), {})[row["ordinal"]] = row
            await self._requeue_page(letters)
            advance(len(rows))

    async def _requeue_page(self, letters: DeadLettersByRecord) -> None:
        held, missing = await self._reader.held([Range(*place, place[2] + 1) for place in letters])
        await self._note_gone([letters[Location(part.topic, part.partition, part.start)] for part in missing])
        kept, left = await bound_by_live(self._connection, held)
        self._done.left_to_live += left
        if not kept:
            return
        found = {Location(part.topic, part.partition, part.start) for part in kept}
        async for part, records in self._reader.read(merged(kept, NEAR_OFFSETS)):
            selected = [one for one in records if _location_of(one) in found and self._is_same(one, letters)]
            read = {_location_of(one) for one in selected}
            covered = {place for place in found if place[:2] == (part.topic, part.partition)}
            # Offsets that hold nothing any more, as after a compaction; or another record, of a topic that was deleted
            # and created again.
            empty = {place for place in covered - read if part.start <= place[2] < part.end}
            await self._note_gone([letters[place] for place in sorted(empty)])
            for first in range(0, len(selected), PORTION_RECORDS):
                await self._live.give_way()
                await self._fold(selected[first : first + PORTION_RECORDS], letters)

    async def _fold(self, records: Sequence[Any], letters: DeadLettersByRecord) -> None:
        tried = _Tried(self._note_try)

        async def first() -> None:
            await hold_live(self._connection, self._folding.generation)

        async def last(outcome: Written) -> None:
            still_dead: dict[Location, dict[int, Dead]] = {}
            for letter in outcome.letters:
                still_dead.setdefault(_location_of(letter.raw), {})[letter.ordinal] = letter
            for record in records:
                place = _location_of(record)
                await tried.note(letters[place], still_dead.get(place, {}))

        await self._commit([self._folded(record, letters) for record in records], first, last)
        self._done.dead += tried.dead
        self._done.revived += tried.revived
        if self._author is not None:
            metrics.letters_requeued(tried.revived, tried.dead)

    def _folded(self, record: Any, letters: DeadLettersByRecord) -> Folded:
        """The requested events of a record: all of them, if it was dead as a whole."""
        folded, wanted = self._folding.fold(record), letters[_location_of(record)]
        return folded if 0 in wanted else folded.only({ordinal: row["event_id"] for ordinal, row in wanted.items()})

    def _is_same(self, record: Any, letters: DeadLettersByRecord) -> bool:
        """True if it is the record that was dead. A record that could not be decoded is named by its location."""
        named = {row["record_id"] for row in letters[_location_of(record)].values()}
        return str(Location(*_location_of(record))) in named or self._folding.fold(record).record_id in named

    async def _commit(
        self, folded: Sequence[Any], first: Callable[[], Awaitable[None]], last: Callable[[Written], Awaitable[None]]
    ) -> None:
        try:
            async with self._connection.transaction():
                await self._folding.commit(self._connection, folded, first, last)
                if self._author is None:
                    raise RolledBack
        except RolledBack:
            return

    async def _note_gone(self, records: Sequence[dict[int, Any]]) -> None:
        letters = [row for record in records for row in record.values()]
        self._done.gone += len(letters)
        for letter in letters:
            await self._note_try(letter, "gone", None)

    async def _note_try(self, letter: Any, outcome: str, error: str | None) -> None:
        if self._author is None:
            return
        known = (letter[name] for name in _KNOWN)
        await self._connection.execute(
            _UPSERT_REQUEUE, *_location_of_letter(letter), *known, outcome, error, self._author.operator
        )


class _Tried:
    """The results for the letters of some records. `note_try` writes one down."""

    def __init__(self, note_try: Callable[[Any, str, str | None], Awaitable[None]]) -> None:
        self._note_try = note_try
        self.revived = 0
        self.dead = 0

    async def note(self, asked: dict[int, Any], still_dead: dict[int, Dead]) -> None:
        """Count one record: the requested letters, and those of this reading."""
        self.dead += len(still_dead)
        for ordinal, row in asked.items():
            # Newer code may count the events of a record otherwise.
            same = [n for n, one in still_dead.items() if n == ordinal or one.event.event_id == row["event_id"]]
            letter = still_dead.pop(same[0]) if same else None
            if letter is None:
                # A record that was dead as a whole leaves its events, of which some may be dead.
                self.revived += 1
                await self._note_try(row, "revived", None)
            else:
                await self._note_try(row, "dead", _error(letter))
        for ordinal, letter in still_dead.items():
            whole = asked.get(0, {})
            said = {**dict(whole), "ordinal": ordinal, "first_error": _error(letter)}
            named = {"event_id": letter.event.event_id, "type": letter.event.type}
            await self._note_try({**said, **named}, "dead", _error(letter))


def _error(letter: Dead) -> str:
    return f"{letter.reason}: {letter.message}"


def _location_of_letter(letter: Any) -> Location:
    return Location(letter["topic"], letter["partition"], letter["record_offset"])


def _location_of(record: Any) -> Location:
    return Location(record.topic, record.partition, record.offset)


async def _unheard(_: str | None) -> None:
    """Nobody watches why it is slow."""
