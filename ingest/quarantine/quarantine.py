"""Deliveries that did not verify, kept apart so that they can be verified again once a wrong secret or clock is fixed.

Forgers write here as well, so every source has an allowance. Deliveries over it are counted per minute and noted in the
topic itself. Must not decide whether a signature is right.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from ingest import metrics
from ingest.log.event_log import EventLog
from ingest.log.record_batch import LogRecord
from ingest.quarantine.allowance import Allowance
from schemas.envelope import Delivery, Location, quarantine_headers
from schemas.errors import Unavailable
from schemas.providers import conceal
from schemas.providers.base import body_record_id
from schemas.quarantine import DROPPED_TYPE, DroppedDeliveries, QuarantineConfig
from schemas.settings import Source
from schemas.topics import QUARANTINE

FLUSH_SECONDS: Final = 5.0
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
MAX_MINUTES: Final = 10_000
"""The limit for all sources of minutes that wait for the log; a log that is away for longer gets the counts of days."""


class _Kept:
    """Hears once whether a record is kept; in doubt it is not, as far as anybody can say in time."""

    def __init__(self, say: Callable[[bool], None]) -> None:
        self._say: Callable[[bool], None] | None = say

    def settled(self, location: Location | None) -> None:
        self._answer(location is not None)

    def overdue(self) -> None:
        self._answer(False)

    def _answer(self, is_kept: bool) -> None:
        say, self._say = self._say, None
        if say is not None:
            say(is_kept)


class QuarantineWriter:
    """That of one of the `processes` of a host. `now_ms` is the wall clock in milliseconds.

    `clock` counts seconds and can't be set: allowances must not fill up because somebody corrects the time.
    """

    def __init__(
        self,
        log: EventLog,
        config: QuarantineConfig,
        now_ms: Callable[[], int],
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._config = config
        self._now_ms = now_ms
        self._processes = processes
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}
        self._dropped: dict[tuple[str, int], int] = {}

    def keep(self, source: Source, delivery: Delivery, rejection: str, answer: Callable[[bool], None]) -> None:
        """`answer` hears once whether the delivery is kept: now, or when the log has answered.

        Raises `RejectedDelivery` where the shared token of it can't be masked: then nothing may be kept.
        """
        masked = conceal(source.provider, delivery, source.secrets)
        record_id = body_record_id(masked.body)
        headers = quarantine_headers(masked, record_id, rejection, source.provider.name, source.provider.kept_headers)
        # A forger chooses the headers, too.
        size = len(masked.body) + sum([len(name) + len(value) for name, value in headers])
        if not self._allowance(source.name).admit(size, self._clock()):
            self._drop(source.name, delivery.arrived_ms)
            answer(False)
            return

        def kept(is_kept: bool) -> None:
            if not is_kept:
                self._drop(source.name, delivery.arrived_ms)
            answer(is_kept)

        record = LogRecord(QUARANTINE, record_id.encode(), masked.body, delivery.arrived_ms, headers)
        try:
            self._log.append_aside(record, _Kept(kept))
        except Unavailable:
            kept(False)

    def _allowance(self, source: str) -> Allowance:
        found = self._allowances.get(source)
        if found is None:
            found = self._allowances[source] = Allowance(self._config, self._processes, self._clock())
        return found

    def _drop(self, source: str, arrived_ms: int) -> None:
        metrics.QUARANTINE_DROPPED.labels(source).inc()
        key = (source, arrived_ms // _MINUTE_MS * _MINUTE_MS)
        if len(self._dropped) >= MAX_MINUTES and key not in self._dropped:
            key = (source, arrived_ms // _DAY_MS * _DAY_MS)
        self._dropped[key] = self._dropped.get(key, 0) + 1

    def note_dropped(self, under_way_ms: int | None = None) -> None:
        """Write down the counts of all minutes but the present one: a wrong clock leaves later ones, too.

        Counts that the log does not take now wait for the next time.
        """
        for key in [key for key in self._dropped if key[1] != under_way_ms]:
            source, minute_ms = key
            dropped = DroppedDeliveries(source, minute_ms, self._dropped[key])
            headers = [("ce_type", DROPPED_TYPE.encode()), ("ce_source", f"/webhooks/{source}".encode())]
            try:
                record = LogRecord(QUARANTINE, source.encode(), dropped.encode(), minute_ms, headers)
                self._log.append_aside(record, _Kept(lambda _: None))
            except Unavailable:
                return
            metrics.quarantine_overflowed(source, dropped.deliveries)
            del self._dropped[key]

    async def note_dropped_periodically(self, stop: asyncio.Event) -> None:
        """Every minute that is over; when asked to stop, the one under way as well."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), FLUSH_SECONDS)
            self.note_dropped(None if stop.is_set() else self._now_ms() // _MINUTE_MS * _MINUTE_MS)
