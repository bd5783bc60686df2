"""Everything a replay and the console count, as verbs."""

import logging
from typing import Final

from prometheus_client import Counter, Gauge

log: Final = logging.getLogger("redrive.console")
RECORDS: Final = Counter("redrive_replay_records", "Records re-driven.", ["outcome"])
FAILURES: Final = Counter("redrive_console_failures", "Requests that ended in an error of ours.")
PROGRESS: Final = Gauge("redrive_replay_progress_ratio", "How far a running replay is.", ["replay"])

REFUSED: Final = Counter("redrive_console_refusals", "Requests with a wrong key, or not looked at.", ["reason"])


def batch_redriven(replay: str, records: int, dead: int, ratio: float) -> None:
    RECORDS.labels("applied").inc(records - dead)
    RECORDS.labels("dead").inc(dead)
    PROGRESS.labels(replay).set(ratio)


def letters_requeued(revived: int, dead: int) -> None:
    RECORDS.labels("applied").inc(revived)
    RECORDS.labels("dead").inc(dead)


def console_refused(reason: str) -> None:
    """`wrong_key` or `throttled`."""
    REFUSED.labels(reason).inc()


def request_failed(method: str) -> None:
    """Within the `except` that caught it. The path may name an event, so it is not said."""
    FAILURES.inc()
    log.exception("a request failed", extra={"action": "console", "method": method, "code": "internal_error"})
