"""The quarantined deliveries of one source, by minute and reason. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from replay.selection.selection import iso_of
from schemas.quarantine import DroppedDeliveries

MINUTE_MS: Final = 60_000
KEPT_OUT: Final = "kept out by the limits"
"""In the place of a reason: these are not held."""

_STEPS: Final = (1, 5, 15, 60, 6 * 60, 24 * 60)
"""Minutes that a step of a folded list may have."""


class Count(NamedTuple):
    """Deliveries of one time and reason. `first` is where the first of them is; `clock_off` the least and the greatest
    offset of our clock, in seconds, that would make their time right.
    """

    deliveries: int = 0
    first: str | None = None
    clock_off: tuple[int, int] | None = None

    def plus(self, other: "Count") -> "Count":
        offs = [off for both in (self.clock_off, other.clock_off) if both is not None for off in both]
        return Count(
            self.deliveries + other.deliveries,
            self.first if self.first is not None else other.first,
            (min(offs), max(offs)) if offs else None,
        )


@dataclass(slots=True)
class Holdings:
    """Times are arrivals in milliseconds."""

    held: int = 0
    released: int = 0
    verify_now: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    minutes: dict[tuple[int, str], Count] = field(default_factory=dict)
    """(minute, reason) -> what is held of it."""
    dropped: dict[int, int] = field(default_factory=dict)
    """Minute -> deliveries that the limits kept out."""

    def add(
        self,
        arrived_ms: int,
        reason: str,
        place: str,
        *,
        is_released: bool,
        verifies: bool,
        clock_off_seconds: int | None,
    ) -> None:
        """A delivery that is held."""
        self.held += 1
        self.released += is_released
        self.verify_now += verifies
        self.first_ms = arrived_ms if self.first_ms is None else min(self.first_ms, arrived_ms)
        self.last_ms = arrived_ms if self.last_ms is None else max(self.last_ms, arrived_ms)
        key = (arrived_ms // MINUTE_MS * MINUTE_MS, reason)
        off = None if clock_off_seconds is None else (clock_off_seconds, clock_off_seconds)
        self.minutes[key] = self.minutes.get(key, Count()).plus(Count(1, place, off))

    def drop(self, note: DroppedDeliveries) -> None:
        self.dropped[note.minute_ms] = self.dropped.get(note.minute_ms, 0) + note.deliveries

    def as_document(self) -> dict[str, Any]:
        minutes = [
            {
                "minute": iso_of(minute),
                "reason": reason,
                "deliveries": count.deliveries,
                "first": count.first,
                "clock_off_seconds": count.clock_off,
            }
            for (minute, reason), count in sorted(self.minutes.items())
        ]
        return {
            "held": self.held,
            "released": self.released,
            "verify_now": self.verify_now,
            "first_arrival": iso_of(self.first_ms),
            "last_arrival": iso_of(self.last_ms),
            "minutes": minutes,
            "dropped": {iso_of(minute): count for minute, count in sorted(self.dropped.items())},
        }


class HoldingRows(NamedTuple):
    """`rows` of (start in milliseconds, reason, count), in their order; `left_out` earlier ones have no row."""

    step_minutes: int
    rows: list[tuple[int, str, Count]]
    left_out: int


def fold_minutes(holdings: Holdings, most: int) -> HoldingRows:
    """The held and the kept-out deliveries in at most so many rows: by minute, or by the smallest step that fits."""
    for step in _STEPS:
        rows = _rows(holdings, step * MINUTE_MS)
        if len(rows) <= most:
            return HoldingRows(step, rows, 0)
    return HoldingRows(step, rows[-most:], len(rows) - most)


def _rows(holdings: Holdings, step_ms: int) -> list[tuple[int, str, Count]]:
    found: dict[tuple[int, str], Count] = {}
    entries: Iterable[tuple[int, str, Count]] = (
        *((minute, reason, count) for (minute, reason), count in sorted(holdings.minutes.items())),
        *((minute, KEPT_OUT, Count(deliveries)) for minute, deliveries in holdings.dropped.items()),
    )
    for minute, reason, count in entries:
        key = (minute // step_ms * step_ms, reason)
        found[key] = found.get(key, Count()).plus(count)
    return [(start, reason, count) for (start, reason), count in sorted(found.items())]
