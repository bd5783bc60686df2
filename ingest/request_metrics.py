"""The counters of every delivery, at the cost of a few additions."""

from bisect import bisect_left
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUESTS: Final = Counter("redrive_ingest_requests", "Deliveries by what became of them.", ["source", "outcome"])
_MATCHES: Final = Counter(
    "redrive_ingest_secret_matches",
    "Verified deliveries by the position of the secret that matched, from 1: an old one is out of use at 0.",
    ["source", "secret"],
)
_SECONDS: Final = Histogram("redrive_ingest_request_seconds", "Time to answer a delivery.", buckets=BUCKETS)
LAST_EVENT: Final = Gauge(
    "redrive_source_last_event_timestamp_seconds",
    "Arrival of the newest record of a source.",
    ["source"],
    multiprocess_mode="max",
)


class Requests:
    """The counters of every delivery. Plain numbers of the one thread that counts them, published on a scrape: the
    library's counters take a lock each, which would be a twentieth of a delivery's cost.
    """

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str], int] = {}
        self._matches: dict[tuple[str, int], int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._newest_ms: dict[str, int] = {}

    def announce(self, source: str, secrets: int) -> None:
        """A source's counters are there, at 0, before its first delivery."""
        for outcome in ("accepted", "duplicate", "conflict", "spooled"):
            self._outcomes.setdefault((source, outcome), 0)
        for index in range(secrets):
            self._matches.setdefault((source, index), 0)

    def count(self, source: str, outcome: str) -> None:
        key = (source, outcome)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1

    def match(self, source: str, secret_index: int) -> None:
        key = (source, secret_index)
        self._matches[key] = self._matches.get(key, 0) + 1

    def arrived(self, source: str, arrived_ms: int) -> None:
        self._newest_ms[source] = arrived_ms

    def observe(self, seconds: float) -> None:
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def publish(self) -> None:
        """Hand on what was counted since the last time."""
        for (source, outcome), count in self._outcomes.items():
            _REQUESTS.labels(source, outcome).inc(count)
            self._outcomes[source, outcome] = 0
        for (source, index), count in self._matches.items():
            _MATCHES.labels(source, str(index + 1)).inc(count)
            self._matches[source, index] = 0
        # The library has no public way to add many observations at once.
        for position, count in enumerate(self._buckets):
            _SECONDS._buckets[position].inc(count)
            self._buckets[position] = 0
        _SECONDS._sum.inc(self._seconds)
        self._seconds = 0.0
        for source, newest_ms in self._newest_ms.items():
            LAST_EVENT.labels(source).set(newest_ms / 1000)


REQUESTS: Final = Requests()
