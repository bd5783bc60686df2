"""Everything a replay counts, as verbs."""

from typing import Final

from prometheus_client import Counter, Gauge

RECORDS: Final = Counter("redrive_replay_records", "Records re-driven.", ["outcome"])
PROGRESS: Final = Gauge("redrive_replay_progress_ratio", "How far a running replay is.", ["replay"])


def batch_redriven(replay: str, records: int, dead: int, ratio: float) -> None:
    RECORDS.labels("applied").inc(records - dead)
    RECORDS.labels("dead").inc(dead)
    PROGRESS.labels(replay).set(ratio)
