"""Logs as JSON lines: to stdout, and rotated under `<data>/logs/<service>.log`.

No line holds a body, a phone number, an e-mail address or a secret. The callers leave them out; this is the last check,
and the only one that sees the log lines of libraries and the values in a traceback.
"""

import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_tb
from typing import Any, Final

import orjson

from schemas.masking import describe, mask_id, mask_text

OURS: Final = "redrive"
FIELDS: Final = ("action", "source", "event_id", "outcome", "code")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
ROTATE_BYTES: Final = 20 * 1024 * 1024
ROTATE_FILES: Final = 5
MAX_CAUSES: Final = 10
_RETRIES: Final = (
    *("Unable connect to", "Unable to update metadata", "Failed fetch messages", "Failed fetch offsets"),
    "Topic %s not found in cluster metadata",
)


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
        is_ours = record.name.partition(".")[0] == OURS
        message = record.getMessage()
        # After their first line, libraries quote what they were working on.
        line["message"] = mask_text(message if is_ours else message.partition("\n")[0])
        line["logger"] = record.name
        if is_ours:
            known = _STANDARD | line.keys()
            line.update({name: value for name, value in vars(record).items() if name not in known})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = trace(record.exc_info[1])
        return orjson.dumps({name: _masked(name, value) for name, value in line.items()}, default=str).decode()


def _masked(name: str, value: Any) -> Any:
    if not isinstance(value, str) or name in ("message", "exception"):
        return value
    return mask_id(value) if name == "event_id" else mask_text(value)


def trace(error: BaseException) -> str:
    """Where an error was raised and through what, the first cause first; of what it says only what quotes nothing."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None and len(parts) < MAX_CAUSES:
        within = [trace(one) for one in found.exceptions] if isinstance(found, BaseExceptionGroup) else []
        parts.append("\n".join([*(line.rstrip() for line in format_tb(found.__traceback__)), describe(found), *within]))
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\n\n".join(reversed(parts))


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
        handler.addFilter(_is_news)
    logging.basicConfig(level="WARNING", handlers=[file, stdout], force=True)
    logging.getLogger(OURS).setLevel(level)
    # The error that ends the process is logged like every other, not as a bare traceback on stderr.
    sys.excepthook = _log_last_words
    logging.getLogger("aiokafka").setLevel("ERROR")
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel("CRITICAL")
    # A traceback, with headers, for every line of garbage that anybody sends.
    logging.getLogger("aiohttp.server").setLevel("CRITICAL")
    # A watch that runs late because the broker is slow is not news of its own.
    logging.getLogger("mode.timers").setLevel("ERROR")


def _is_news(record: logging.LogRecord) -> bool:
    """aiokafka reports every try at a broker or a topic that is away, several a second; our own lines say it once."""
    return not (record.name.startswith("aiokafka") and str(record.msg).startswith(_RETRIES))


def _log_last_words(kind: type[BaseException], error: BaseException, _: Any) -> None:
    if isinstance(error, Exception):
        logging.getLogger(OURS).critical(
            "the process ends", exc_info=error, extra={"action": "stop", "outcome": "failed", "code": "internal_error"}
        )
    else:
        sys.__excepthook__(kind, error, error.__traceback__)
