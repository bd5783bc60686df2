"""Logs as JSON lines: to stdout, and rotated under `<data>/logs/<service>.log`."""

import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

FIELDS: Final = ("action", "source", "event_id", "outcome", "code")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
ROTATE_BYTES: Final = 20 * 1024 * 1024
ROTATE_FILES: Final = 5


class JsonFormatter(logging.Formatter):
    """time, level, service, action, source, event_id, outcome, code, message; then what a line adds."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
        }
        line.update({name: getattr(record, name, None) for name in FIELDS})
        line["message"] = record.getMessage()
        line["logger"] = record.name
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(service: str, data: Path, level: str, stdout_level: str) -> None:
    """Set up the root logger of a service process. Libraries speak from WARNING on."""
    folder = data / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    file = logging.handlers.RotatingFileHandler(
        folder / f"{service}.log", maxBytes=ROTATE_BYTES, backupCount=ROTATE_FILES
    )
    stdout = logging.StreamHandler(sys.stdout)
    stdout.setLevel(stdout_level)
    formatter = JsonFormatter(service)
    for handler in (file, stdout):
        handler.setFormatter(formatter)
    logging.basicConfig(level="WARNING", handlers=[file, stdout], force=True)
    logging.getLogger("redrive").setLevel(level)
    # aiokafka reports every retry of a connection; our own readiness and metrics say it once.
    logging.getLogger("aiokafka").setLevel("ERROR")
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel("CRITICAL")
    # A traceback, with headers, for every line of garbage that anybody sends.
    logging.getLogger("aiohttp.server").setLevel("CRITICAL")
    # A watch that runs late because the broker is slow is no news of its own.
    logging.getLogger("mode.timers").setLevel("ERROR")
