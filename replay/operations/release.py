"""Releasing from the quarantine: deliveries that verify now are appended to their source's topic as they arrived.

Those that still fail stay out. On record from before the first append (invariant 10).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, LiteralString

from replay import audit
from replay.audit import Author
from replay.locks import Lock, advisory_lock
from replay.operations.quarantine import (
    UNTIMELY,
    QuarantinedDelivery,
    QuarantineReader,
    ReleasedContent,
    Reverification,
)
from replay.ports import Append
from schemas.envelope import Identity, VerifiedDelivery
from schemas.errors import AppendInDoubt, InvalidSelection, Unavailable
from schemas.providers import identify
from schemas.quarantine import DroppedDeliveries
from schemas.settings import Source

ACTION: Final = "quarantine.release"
FARTHEST_SECONDS: Final = 10**10
"""The limit of a clock's error: three hundred years."""

_RELEASED_CONTENTS: Final[LiteralString] = """
    SELECT source, record_id, fingerprint FROM redrive.releases
    WHERE (source, record_id, fingerprint) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]))
"""
_UPSERT_RELEASE: Final[LiteralString] = """
    INSERT INTO redrive.releases (partition, record_offset, source, record_id, fingerprint, location)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (partition, record_offset) DO UPDATE
    SET source = EXCLUDED.source, record_id = EXCLUDED.record_id, fingerprint = EXCLUDED.fingerprint,
        location = EXCLUDED.location, released_at = now()
"""


@dataclass(frozen=True, slots=True)
class ReleaseSelection:
    """The sources; and how far our clock was ahead when deliveries with a right signature arrived at a wrong time."""

    sources: Sequence[str]
    clock_off_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not -FARTHEST_SECONDS <= self.clock_off_seconds <= FARTHEST_SECONDS:
            raise InvalidSelection(f"clock_off_seconds is out of range: at most {FARTHEST_SECONDS} either way")


@dataclass(frozen=True, slots=True)
class AuthorizedRelease:
    """The author, the reason and the log of a release; a dry run has none."""

    author: Author
    append: Append


@dataclass(slots=True)
class Release:
    """The result of a release, or of a dry run.

    `untimely` are those of `still_failing` whose signature is right, but not their time at arrival.
    """

    released: int = 0
    duplicates: int = 0
    still_failing: int = 0
    untimely: int = 0
    released_before: int = 0


async def release(
    quarantine: QuarantineReader,
    wanted: ReleaseSelection,
    order: AuthorizedRelease | None,
    advance: Callable[[int], None],
) -> Release:
    """Append the deliveries that verify now. Without an order nothing is written.

    A delivery under a wrong clock gets the arrival that a right clock would have given it, and is released only if it
    was fresh then: the sender of a captured delivery can't choose how far our clock was off.

    Raises `Unavailable`, and `InvalidSelection` for an operator or a reason that the audit can't take, or for a wrong
    clock without a reason.
    """
    if wanted.clock_off_seconds and order is not None and not order.author.reason:
        raise InvalidSelection("a release for a wrong clock needs a reason: it goes into the audit")
    connection = quarantine.connection
    async with advisory_lock(connection, Lock.QUARANTINE, "try") as is_ours:
        if not is_ours:
            raise Unavailable("another release of the quarantine is under way; wait for its end")
        work = _Work(quarantine, wanted, order.append if order else None)
        if order is None:
            await work.run(advance)
        else:
            await _on_record(work, order.author, advance)
        return work.done


async def _on_record(work: "_Work", author: Author, advance: Callable[[int], None]) -> None:
    off = work.wanted.clock_off_seconds
    said: dict[str, Any] = {"sources": list(work.wanted.sources), **({"clock_off_seconds": off} if off else {})}

    async def note(outcome: str, **counts: int) -> None:
        await audit.note(
            work.quarantine.connection, author.operator, ACTION, author.reason, **said, outcome=outcome, **counts
        )

    await note("begun")
    outcome = "failed"
    try:
        await work.run(advance)
        outcome = "done"
    except AppendInDoubt as error:
        outcome = audit.outcome_of(error)
        raise
    finally:
        await note(outcome, **asdict(work.done))


@dataclass(slots=True)
class _Work:
    """One release. `append` is None in a dry run."""

    quarantine: QuarantineReader
    wanted: ReleaseSelection
    append: Append | None
    done: Release = field(default_factory=Release)
    seen: set[ReleasedContent] = field(default_factory=set)

    async def run(self, advance: Callable[[int], None]) -> None:
        released = await self.quarantine.released()
        async for part in self.quarantine.read(advance):
            passing: list[tuple[QuarantinedDelivery, VerifiedDelivery, Identity]] = []
            for one in part:
                if isinstance(one, DroppedDeliveries) or one.delivery.source not in self.wanted.sources:
                    continue
                verdict = self._judge(one)
                if self.quarantine.is_released(one, verdict, released.get((one.partition, one.offset))):
                    self.done.released_before += 1
                    continue
                if verdict.verified is None:
                    self.done.still_failing += 1
                    self.done.untimely += verdict.code == UNTIMELY
                    continue
                provider = self.quarantine.sources[one.delivery.source].provider
                passing.append((one, verdict.verified, identify(provider, verdict.verified)))
            await self._append_new(passing)

    def _judge(self, one: QuarantinedDelivery) -> Reverification:
        """As it arrived, or else as it would have arrived under a right clock."""
        verdict = self.quarantine.judge(one)
        if verdict.code == UNTIMELY and self.wanted.clock_off_seconds:
            return self.quarantine.judge(one, round(self.wanted.clock_off_seconds * 1000))
        return verdict

    async def _append_new(self, passing: Sequence[tuple[QuarantinedDelivery, VerifiedDelivery, Identity]]) -> None:
        """A provider retries after a 401, so one event may be here many times: the first copy is appended for all."""
        connection, sources = self.quarantine.connection, self.quarantine.sources
        contents = [(one.delivery.source, identity.record_id, identity.fingerprint) for one, _, identity in passing]
        columns = [list(column) for column in zip(*contents, strict=True)] or [[], [], []]
        self.seen |= {tuple(row) for row in await connection.fetch(_RELEASED_CONTENTS, *columns)}
        new: list[tuple[QuarantinedDelivery, ReleasedContent, tuple[Source, VerifiedDelivery, Identity]]] = []
        rows: list[tuple[int, int, str, str, bytes, str | None]] = []
        for (one, verified, identity), content in zip(passing, contents, strict=True):
            if content in self.seen:
                rows.append((one.partition, one.offset, *content, None))
            else:
                self.seen.add(content)
                new.append((one, content, (sources[one.delivery.source], verified, identity)))
        try:
            locations = await self.append([record for _, _, record in new]) if self.append is not None else []
        except AppendInDoubt as error:
            raise AppendInDoubt(f"{error}. Release again: what is on the log by then counts once") from error
        self.done.duplicates += len(rows)
        self.done.released += len(new)
        if self.append is None:
            return
        rows += [
            (one.partition, one.offset, *content, str(location))
            for (one, content, _), location in zip(new, locations, strict=True)
        ]
        # After the append: a crash in between costs a second copy on the log, which changes no table.
        await connection.executemany(_UPSERT_RELEASE, rows)
