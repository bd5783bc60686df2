"""Everything the ingress counts, as verbs that count and log. Never logs bodies, signatures, secrets, or ids unmasked.

Accepted deliveries are logged at DEBUG: at full speed a line per delivery costs more than the delivery.
"""

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ingest.request_metrics import BUCKETS, REQUESTS
from schemas.clocks import apart
from schemas.errors import REJECTIONS as PROBLEMS
from schemas.masking import describe, mask_id

log: Final = logging.getLogger("redrive.ingest")

LOG_SECONDS: Final = 1.0
UNKNOWN: Final = "unknown"
"""The `source` label of requests to no configured source: names off the wire must not become labels."""

APPEND_SECONDS: Final = Histogram(
    "redrive_ingest_append_seconds", "Time for a batch of records to be durable on the log.", buckets=BUCKETS
)
SPOOL_RECORDS: Final = Gauge(
    "redrive_ingest_spool_records", "Deliveries waiting in the local spool.", multiprocess_mode="sum"
)
SPOOL_BYTES: Final = Gauge(
    "redrive_ingest_spool_bytes", "Size of the local spool on the disk.", multiprocess_mode="sum"
)
SPOOL_FULL: Final = Counter("redrive_ingest_spool_full", "Deliveries that the spool had no room for.")
SPOOL_FAILURES: Final = Counter(
    "redrive_ingest_spool_failures", "Times that the spool could not be written or read.", ["reason"]
)
SPOOL_DRAINED: Final = Counter("redrive_ingest_spool_drained", "Deliveries that left the spool for the log.")
SPOOL_DAMAGED: Final = Counter("redrive_ingest_spool_damaged_bytes", "Bytes of the spool that no checksum vouches for.")
SPOOL_SET_ASIDE: Final = Counter(
    "redrive_ingest_spool_set_aside", "Spooled deliveries that the broker will never take."
)
SPOOL_UNREADABLE: Final = Counter(
    "redrive_ingest_spool_unreadable", "Times that a file of the spool could not be read, and was passed over."
)
REJECTIONS: Final = Counter("redrive_ingest_rejections", "Refused deliveries by problem code.", ["source", "code"])
WINDOW_IDS: Final = Gauge("redrive_ingest_dedupe_ids", "Record ids in the dedupe window.", multiprocess_mode="max")
WINDOW_SHARE_FAILURES: Final = Counter(
    "redrive_ingest_dedupe_share_failures",
    "Times that hosts could not tell each other what they appended, or one said what can't be read.",
)
WINDOW_HELD: Final = Gauge(
    "redrive_ingest_dedupe_held", "1 while a frozen process holds the dedupe window.", multiprocess_mode="livemax"
)
WINDOW_UNCLAIMED: Final = Counter("redrive_ingest_dedupe_unclaimed", "Deliveries taken while the window was held.")
CONNECTIONS: Final = Gauge("redrive_ingest_connections", "Open connections.", multiprocess_mode="livesum")
CONNECTIONS_REFUSED: Final = Counter(
    "redrive_ingest_connections_refused", "Connections over a limit, or too slow.", ["reason"]
)
TOPICS_REPLACED: Final = Counter("redrive_ingest_topics_replaced", "Topics that were created again.", ["topic"])
WINDOW_VOIDS: Final = Counter(
    "redrive_ingest_dedupe_voids", "Times that a log turned out to have lost records that the window knew.", ["topic"]
)
WINDOW_SAVE_FAILURES: Final = Counter(
    "redrive_ingest_dedupe_save_failures", "Times that the dedupe window could not be written to disk."
)
DISABLED_SAVE_FAILURES: Final = Counter(
    "redrive_ingest_disabled_save_failures", "Times that the disabled sources could not be written to disk."
)
CLOCK_AHEAD: Final = Gauge(
    "redrive_ingest_clock_ahead_seconds",
    "The least by which this host's clock is ahead of another's; negative: behind.",
    ["of"],
    multiprocess_mode="mostrecent",
)
QUARANTINE_DROPPED: Final = Counter(
    "redrive_quarantine_dropped", "Deliveries that failed verification and that the limits kept out.", ["source"]
)
APPEND_FAILURES: Final = Counter("redrive_ingest_append_failures", "Batches that the log refused.", ["reason"])


_registry = REGISTRY


def share(registry: CollectorRegistry) -> None:
    """Scrapes speak for all processes that this one collects."""
    global _registry
    _registry = registry


def exposition() -> bytes:
    """The text of a scrape."""
    REQUESTS.publish()
    return generate_latest(_registry)


def accepted(source: str, record_id: str, arrived_ms: int, is_conflict: bool) -> None:
    """A conflict is accepted as well: the same id came with another content."""
    REQUESTS.count(source, "conflict" if is_conflict else "accepted")
    REQUESTS.arrived(source, arrived_ms)
    if is_conflict:
        _log_append(logging.WARNING, "an id came again with another content", source, record_id, "conflict")
    elif log.isEnabledFor(logging.DEBUG):
        _log_append(logging.DEBUG, "accepted", source, record_id, "accepted")


def spooled(source: str, record_id: str, arrived_ms: int) -> None:
    REQUESTS.count(source, "spooled")
    REQUESTS.arrived(source, arrived_ms)
    if log.isEnabledFor(logging.DEBUG):
        _log_append(logging.DEBUG, "spooled", source, record_id, "spooled")


def connection_refused(reason: str) -> None:
    CONNECTIONS_REFUSED.labels(reason).inc()


def duplicate(source: str, record_id: str) -> None:
    REQUESTS.count(source, "duplicate")
    if log.isEnabledFor(logging.DEBUG):
        _log_append(logging.DEBUG, "duplicate", source, record_id, "duplicate")


def _log_append(level: int, message: str, source: str, record_id: str, outcome: str) -> None:
    log.log(
        level, message, extra={"action": "append", "source": source, "event_id": mask_id(record_id), "outcome": outcome}
    )


_logged: Final[dict[tuple[str, str], float]] = {}
_unlogged: Final[dict[tuple[str, str], int]] = {}


def _log_seldom(level: int, message: str, line: dict[str, Any]) -> None:
    """At most a line a second of one source and code, with how many have had none: writing one costs ten times what
    refusing does, so that whoever floods one source would starve the others.
    """
    key, now = (line.get("source", ""), line["code"]), time.monotonic()
    if now - _logged.get(key, -LOG_SECONDS) < LOG_SECONDS:
        _unlogged[key] = _unlogged.get(key, 0) + 1
        return
    _logged[key] = now
    log.log(level, message, extra={**line, "unlogged": _unlogged.pop(key, 0)})


def rejected(source: str, code: str) -> None:
    status = PROBLEMS[code][0]
    outcome = "failed" if status >= 500 else "throttled" if status == 429 else "rejected"
    REQUESTS.count(source, outcome)
    REJECTIONS.labels(source, code).inc()
    level = logging.WARNING if status >= 500 else logging.INFO
    _log_seldom(level, "refused", {"action": "verify", "source": source, "outcome": outcome, "code": code})


def handler_failed(source: str) -> None:
    """An error of ours in the outermost loop: counted, logged with its traceback, answered 500."""
    REQUESTS.count(source, "failed")
    REJECTIONS.labels(source, "internal_error").inc()
    log.exception("unexpected error", extra={"action": "answer", "source": source, "code": "internal_error"})


def provider_failed(source: str, error: BaseException) -> None:
    """The provider's code raised what it should not: a plug-in's, most likely."""
    line = {"action": "verify", "source": source, "outcome": "failed", "code": "verification_failed"}
    _log_seldom(logging.ERROR, f"the provider's code failed: {describe(error)}", line)


def append_refused(topic: str, error: BaseException, records: int) -> None:
    """Kafka will never take this batch; what it does not take for now, `ingest.outage_log` tells."""
    log.error(
        "Kafka refuses a batch: %s",
        describe(error),
        extra={"action": "append", "outcome": "failed", "code": "record_refused", "topic": topic, "records": records},
    )


def window_not_saved(error: BaseException) -> None:
    WINDOW_SAVE_FAILURES.inc()
    log.error(
        "the dedupe window could not be written; it goes on in memory: %s",
        describe(error),
        extra={"action": "save_window", "outcome": "retry", "code": "window_not_saved"},
    )


def window_forgotten(topic: str) -> None:
    TOPICS_REPLACED.labels(topic).inc()
    log.error(
        "the topic %s was created again: its dedupe window starts empty",
        topic,
        extra={"action": "watch_topics", "outcome": "replaced", "code": "topic_replaced"},
    )


def window_void(topics: Iterable[str]) -> None:
    for topic in topics:
        WINDOW_VOIDS.labels(topic).inc()
        log.error(
            "the log of %s holds other records than its dedupe window: all of the window is read from the log",
            topic,
            extra={"action": "watch_topics", "outcome": "replaced", "code": "window_void", "topic": topic},
        )


def window_held(pid: int) -> None:
    WINDOW_HELD.set(1)
    log.error(
        "process %d holds the dedupe window and does not continue: deliveries are taken without it; continue that "
        "process (kill -CONT) or end it (kill -KILL)",
        pid,
        extra={"action": "claim", "outcome": "held", "code": "window_held", "pid": pid},
    )


def window_free(seconds: float) -> None:
    WINDOW_HELD.set(0)
    line = {"action": "claim", "outcome": "free", "seconds": round(seconds, 1)}
    log.info("the dedupe window is free again", extra=line)


def disabled_not_saved(error: BaseException) -> None:
    DISABLED_SAVE_FAILURES.inc()
    log.error(
        "the disabled sources could not be written; a restart knows them once it hears the log: %s",
        describe(error),
        extra={"action": "obey", "outcome": "failed", "code": "disabled_not_saved"},
    )


def window_caught_up(ids: int, read: int, seconds: float) -> None:
    WINDOW_IDS.set(ids)
    log.info(
        "dedupe window loaded",
        extra={"action": "catch_up", "outcome": "ready", "ids": ids, "read": read, "seconds": round(seconds, 3)},
    )


def clock_went_wrong(ahead_seconds: float) -> None:
    log.error(
        "this host's clock and Kafka's %s; set the wrong one (NTP)",
        apart(ahead_seconds),
        extra={"action": "compare_clocks", "outcome": "off", "code": "clock_off"},
    )


def clock_is_right_again() -> None:
    log.info("this host's clock and Kafka's agree again", extra={"action": "compare_clocks", "outcome": "right"})


def quarantined(source: str, code: str) -> None:
    """Refused like any other, and kept to be verified again."""
    REQUESTS.count(source, "quarantined")
    REJECTIONS.labels(source, code).inc()
    line = {"action": "quarantine", "source": source, "outcome": "quarantined", "code": code}
    _log_seldom(logging.INFO, "quarantined", line)


def quarantine_overflowed(source: str, deliveries: int) -> None:
    log.warning(
        "the quarantine's limits kept out %d deliveries of one minute; their provider has to send them again",
        deliveries,
        extra={"action": "quarantine", "source": source, "outcome": "dropped", "code": "quarantine_full"},
    )


def spool_failed(error: BaseException, records: int) -> None:
    SPOOL_FAILURES.labels(type(error).__name__).inc()
    line = {"action": "spool", "outcome": "failed", "code": "spool_failed", "records": records}
    _log_seldom(logging.ERROR, f"the spool could not be used: {describe(error)}", line)


def spool_damaged(path: str, damaged: int) -> None:
    SPOOL_DAMAGED.inc(damaged)
    log.error(
        "the spool is damaged: %d bytes have no valid checksum; the file is kept",
        damaged,
        extra={"action": "spool", "outcome": "damaged", "code": "spool_damaged", "path": path},
    )


def spool_unreadable(path: str, error: BaseException) -> None:
    SPOOL_UNREADABLE.inc()
    log.error(
        "a file of the spool can't be read, and is passed over: %s; correct that, and restart the ingress",
        describe(error),
        extra={"action": "spool", "outcome": "passed_over", "code": "spool_unreadable", "path": path},
    )


def spool_set_aside(path: str, reason: str) -> None:
    SPOOL_SET_ASIDE.inc()
    log.error(
        "a spooled delivery was set aside: %s",
        reason,
        extra={"action": "spool", "outcome": "set_aside", "code": "spool_set_aside", "path": path},
    )


def spool_drained(records: int) -> None:
    SPOOL_DRAINED.inc(records)
