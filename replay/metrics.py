"""Everything a replay counts, as verbs."""

from typing import Final

from prometheus_client import Counter, Gauge

RECORDS: Final = Counter("redrive_replay_records", "Records re-driven.", ["outcome"])
PROGRESS: Final = Gauge("redrive_replay_progress_ratio", "How far a running replay is.", ["replay"])

REFUSED: Final = Counter("redrive_console_refusals", "Requests with a wrong key, or not looked at.", ["reason"])


def batch_redriven(replay: str, records: int, dead: int, ratio: float) -> None:
    RECORDS.labels("applied").inc(records - dead)
    RECORDS.labels("dead").inc(dead)
    PROGRESS.labels(replay).set(ratio)


def console_refused(reason: str) -> None:
    """`wrong_key` or `throttled`."""
    REFUSED.labels(reason).inc()
