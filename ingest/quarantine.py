"""Deliveries whose signature failed, kept apart so that they can be verified again once a wrong secret is fixed.

Whoever forges deliveries writes here as well, so every source has limits: an amount that is held, and a rate. What they
keep out is counted per minute and noted in the topic itself. Must not decide whether a signature is right.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from ingest import metrics
from ingest.event_log import EventLog
from ingest.record_batch import LogRecord
from schemas.envelope import Delivery, Location, quarantine_headers
from schemas.errors import Unavailable
from schemas.providers import conceal
from schemas.providers.base import body_record_id
from schemas.quarantine import DROPPED_TYPE, Dropped, QuarantineConfig
from schemas.settings import Source
from schemas.token_bucket import TokenBucket
from schemas.topics import QUARANTINE, SIDE_CONFIG

RETENTION_SECONDS: Final = int(SIDE_CONFIG[QUARANTINE]["retention.ms"]) / 1000
BURST_SECONDS: Final = 10.0
FLUSH_SECONDS: Final = 5.0
_MINUTE_MS: Final = 60_000


class _Limits:
    """What one source may still put into the quarantine."""

    def __init__(self, config: QuarantineConfig, now: float) -> None:
        self._records = TokenBucket(config.records, config.records / RETENTION_SECONDS, now)
        self._bytes = TokenBucket(config.bytes, config.bytes / RETENTION_SECONDS, now)
        self._rate = TokenBucket(max(config.per_second * BURST_SECONDS, 1.0), config.per_second, now)

    def admit(self, size: int, now: float) -> bool:
        wanted = ((self._records, 1), (self._bytes, size), (self._rate, 1))
        if not all([bucket.has(tokens, now) for bucket, tokens in wanted]):
            return False
        for bucket, tokens in wanted:
            bucket.take(tokens)
        return True


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


class Quarantine:
    """`now_ms` is the wall clock in milliseconds."""

    def __init__(self, log: EventLog, config: QuarantineConfig, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._config = config
        self._now_ms = now_ms
        self._limits: dict[str, _Limits] = {}
        self._dropped: dict[tuple[str, int], int] = {}

    def keep(self, source: Source, delivery: Delivery, rejection: str, answer: Callable[[bool], None]) -> None:
        """`answer` hears once whether the delivery is kept: now, or when the log has answered.

        Raises `RejectedDelivery` where the shared token of it can't be masked: then nothing may be kept.
        """
        masked = conceal(source.provider, delivery, source.secrets)
        record_id = body_record_id(masked.body)
        headers = quarantine_headers(masked, record_id, rejection, source.provider.name, source.provider.kept_headers)
        # Whoever forges chooses the headers, too.
        size = len(masked.body) + sum([len(name) + len(value) for name, value in headers])
        now = delivery.arrived_ms / 1000
        limits = self._limits.get(source.name)
        if limits is None:
            limits = self._limits[source.name] = _Limits(self._config, now)
        if not limits.admit(size, now):
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

    def _drop(self, source: str, arrived_ms: int) -> None:
        metrics.QUARANTINE_DROPPED.labels(source).inc()
        key = (source, arrived_ms // _MINUTE_MS * _MINUTE_MS)
        self._dropped[key] = self._dropped.get(key, 0) + 1

    def note_dropped(self, before_ms: int) -> None:
        """Write down what the minutes before then kept out. What the log does not take now waits for the next time."""
        for key in [key for key in self._dropped if key[1] < before_ms]:
            source, minute_ms = key
            dropped = Dropped(source, minute_ms, self._dropped[key])
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
            now_ms = self._now_ms()
            self.note_dropped(now_ms + _MINUTE_MS if stop.is_set() else now_ms // _MINUTE_MS * _MINUTE_MS)
