"""The log lines of an outage: one for each change, and none for each delivery.

Kafka lost; spooling since; Kafka back; drained. Must not count: `ingest.metrics` does.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Final

from schemas.masking import describe
from schemas.outage import Outage

log: Final = logging.getLogger("redrive.ingest")

ANY_TOPIC: Final = "*"
"""The topic for a producer that can't be started, or was."""


class Story:
    """The outages of one process: its `EventLog` and its `Spool` report to it."""

    def __init__(self) -> None:
        self._log, self._spool = Outage(), Outage()
        self._is_settling = False
        """Kafka is back, and the spool is not empty yet: it is slow for a while, and holds batches up again. That is
        the same outage, and Kafka is not lost once more."""
        self._told: set[str] = set()
        """Names of the errors that were logged since Kafka was lost, or came back."""
        self._since = ""
        self._drained = 0

    def overdue(self, topic: str, seconds: float) -> None:
        """A batch has waited for so long."""
        self._lose(topic, f"a batch has waited for {seconds:g} s")

    def failed(self, topic: str, error: BaseException) -> None:
        """A batch failed, or a producer (`ANY_TOPIC`). An error that differs from those before it is a line, too."""
        name, reason = type(error).__name__, describe(error)
        if not self._lose(topic, reason) and name not in self._told:
            _say_lost(topic, reason, "retry")
        self._told.add(name)

    def _lose(self, topic: str, reason: str) -> bool:
        """True if that is news."""
        is_news = not self._is_settling and self._log.begins(time.monotonic(), topic)
        if is_news:
            _say_lost(topic, reason, "lost")
        return is_news

    def took(self, topic: str) -> None:
        """Kafka took a batch, or let a producer in after others had failed."""
        seconds = self._log.ends(time.monotonic(), topic)
        if seconds is not None:
            self._told.clear()
            self._is_settling = self._spool.is_on
            line = {"action": "append", "outcome": "back", "topic": topic, "seconds": round(seconds, 1)}
            log.info("Kafka takes appends again", extra=line)

    def spooled(self, records: int) -> None:
        """How many deliveries are in the spool now."""
        now = time.monotonic()
        if records:
            if self._spool.begins(now):
                self._say_spooling()
        elif (seconds := self._spool.ends(now)) is not None:
            self._is_settling = False
            self._say_drained(seconds)

    def drained(self, records: int) -> None:
        """Count the records that have left the spool."""
        self._drained += records

    def _say_spooling(self) -> None:
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        log.warning(
            "deliveries are in the spool: on this disk alone until Kafka takes them",
            extra={"action": "spool", "outcome": "spooling", "code": "log_unavailable", "since": self._since},
        )

    def _say_drained(self, seconds: float) -> None:
        line = {"action": "spool", "outcome": "drained", "records": self._drained, "since": self._since}
        log.info("the spool is drained", extra={**line, "seconds": round(seconds, 1)})
        self._drained = 0


def _say_lost(topic: str, reason: str, outcome: str) -> None:
    line = {"action": "append", "outcome": outcome, "code": "log_unavailable", "topic": topic}
    log.warning("Kafka takes no appends: %s", reason, extra=line)
