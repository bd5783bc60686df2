"""Everything the ingress counts, as verbs that count and log. Never logs bodies, signatures, secrets, or ids unmasked.

Accepted deliveries are logged at DEBUG: at full speed a line per delivery costs more than the delivery.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from schemas.masking import describe, mask_id

log: Final = logging.getLogger("redrive.ingest")

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNKNOWN: Final = "unknown"
"""The `source` label of requests to no configured source: names off the wire must not become labels."""


class Requests(Collector):
    """What every delivery counts. Plain numbers of the one thread that counts them, read when they are scraped:
    the library's counters take a lock each, which would be a twentieth of a delivery's cost.
    """

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        self.matches: dict[tuple[str, int], int] = {}
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, source: str, outcome: str) -> None:
        key = (source, outcome)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def match(self, source: str, secret_index: int) -> None:
        key = (source, secret_index)
        self.matches[key] = self.matches.get(key, 0) + 1

    def observe(self, seconds: float) -> None:
        self._buckets[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "redrive_ingest_requests", "Deliveries by what became of them.", labels=["source", "outcome"]
        )
        for (source, outcome), count in list(self.outcomes.items()):
            requests.add_metric([source, outcome], count)
        yield requests
        matches = CounterMetricFamily(
            "redrive_ingest_secret_matches",
            "Verified deliveries by the position of the secret that matched, from 1: an old one is out of use at 0.",
            labels=["source", "secret"],
        )
        for (source, index), count in list(self.matches.items()):
            matches.add_metric([source, str(index + 1)], count)
        yield matches
        seconds = HistogramMetricFamily("redrive_ingest_request_seconds", "Time to answer a delivery.")
        totals = list(accumulate(self._buckets))
        bounds = [*(str(float(bound)) for bound in _BUCKETS), "+Inf"]
        seconds.add_metric([], list(zip(bounds, totals, strict=True)), self._seconds)
        yield seconds


REQUESTS: Final = Requests()
REGISTRY.register(REQUESTS)
APPEND_SECONDS: Final = Histogram(
    "redrive_ingest_append_seconds", "Time for a batch of records to be durable on the log.", buckets=_BUCKETS
)
SPOOL_RECORDS: Final = Gauge("redrive_ingest_spool_records", "Deliveries waiting in the local spool.")
LAST_EVENT: Final = Gauge(
    "redrive_source_last_event_timestamp_seconds", "Arrival of the newest record of a source.", ["source"]
)
REJECTIONS: Final = Counter("redrive_ingest_rejections", "Refused deliveries by problem code.", ["source", "code"])
WINDOW_IDS: Final = Gauge("redrive_ingest_dedupe_ids", "Record ids in the dedupe window.")
WINDOW_SAVE_FAILURES: Final = Counter(
    "redrive_ingest_dedupe_save_failures", "Times that the dedupe window could not be written to disk."
)
QUARANTINE_DROPPED: Final = Counter(
    "redrive_quarantine_dropped", "Deliveries that failed verification and that the limits kept out.", ["source"]
)
APPEND_FAILURES: Final = Counter("redrive_ingest_append_failures", "Batches that the log refused.", ["reason"])


class SourceMetrics:
    """The counters of one source, looked up once: label look-ups are not for the hot path."""

    def __init__(self, source: str, secrets: int) -> None:
        self._source = source
        for outcome in ("accepted", "duplicate", "conflict"):
            REQUESTS.outcomes.setdefault((source, outcome), 0)
        for index in range(secrets):
            REQUESTS.matches.setdefault((source, index), 0)
        self._newest_ms = 0
        LAST_EVENT.labels(source).set_function(lambda: self._newest_ms / 1000)

    def accepted(self, record_id: str, arrived_ms: int, is_conflict: bool) -> None:
        """A conflict is accepted as well: the same id came with another content."""
        REQUESTS.count(self._source, "conflict" if is_conflict else "accepted")
        # The gauge asks for it when it is scraped.
        self._newest_ms = arrived_ms
        if is_conflict:
            _log_append(logging.WARNING, "an id came again with another content", self._source, record_id, "conflict")
        elif log.isEnabledFor(logging.DEBUG):
            _log_append(logging.DEBUG, "accepted", self._source, record_id, "accepted")


def duplicate(source: str, record_id: str) -> None:
    REQUESTS.count(source, "duplicate")
    if log.isEnabledFor(logging.DEBUG):
        _log_append(logging.DEBUG, "duplicate", source, record_id, "duplicate")


def _log_append(level: int, message: str, source: str, record_id: str, outcome: str) -> None:
    log.log(
        level, message, extra={"action": "append", "source": source, "event_id": mask_id(record_id), "outcome": outcome}
    )


def rejected(source: str, code: str, status: int) -> None:
    outcome = "failed" if status >= 500 else "rejected"
    REQUESTS.count(source, outcome)
    REJECTIONS.labels(source, code).inc()
    level = logging.WARNING if status >= 500 else logging.INFO
    log.log(level, "refused", extra={"action": "verify", "source": source, "outcome": outcome, "code": code})


def handler_failed(source: str) -> None:
    """An error of ours in the outermost loop: counted, logged with its traceback, answered 500."""
    REQUESTS.count(source, "failed")
    REJECTIONS.labels(source, "internal_error").inc()
    log.exception("unexpected error", extra={"action": "answer", "source": source, "code": "internal_error"})


def append_failed(topic: str, error: BaseException, records: int) -> None:
    APPEND_FAILURES.labels(type(error).__name__).inc()
    log.error(
        "the log did not take a batch: %s",
        describe(error),
        extra={"action": "append", "outcome": "failed", "code": "log_unavailable", "topic": topic, "records": records},
    )


def window_not_saved(error: BaseException) -> None:
    WINDOW_SAVE_FAILURES.inc()
    log.error(
        "the dedupe window could not be written; it goes on in memory: %s",
        describe(error),
        extra={"action": "save_window", "outcome": "retry", "code": "window_not_saved"},
    )


def window_caught_up(ids: int, read: int, seconds: float) -> None:
    WINDOW_IDS.set(ids)
    log.info(
        "the dedupe window stands",
        extra={"action": "catch_up", "outcome": "ready", "ids": ids, "read": read, "seconds": round(seconds, 3)},
    )


def quarantined(source: str, code: str) -> None:
    """Refused like any other, and kept to be verified again."""
    REQUESTS.count(source, "quarantined")
    REJECTIONS.labels(source, code).inc()
    log.info("quarantined", extra={"action": "quarantine", "source": source, "outcome": "quarantined", "code": code})


def quarantine_overflowed(source: str, deliveries: int) -> None:
    log.warning(
        "the quarantine's limits kept out %d deliveries of one minute; their provider has to send them again",
        deliveries,
        extra={"action": "quarantine", "source": source, "outcome": "dropped", "code": "quarantine_full"},
    )
