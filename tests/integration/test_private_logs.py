"""No log line, no dead letter's error and no `error` of the event index holds what a body held. On real services."""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.logs import JsonFormatter
from ingest import metrics as ingest_metrics
from processors import metrics
from schemas.topics import DEAD_LETTER
from tests.conftest import Stack
from tests.support.planting import EMAIL, EVERYTHING, PLANTED, TOKEN, planted_records, traces
from tests.support.records import FakeRecord, payment, produce, record
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

PARTITIONS = 3
OF_EACH = 250


class Lines(logging.Handler):
    """Every line, as the services write it; of ours also what was given, before the formatter masks what slipped in."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter("test"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        if record.name.startswith("redrive"):
            given = {**vars(record), "exc_info": None, "exc_text": None}
            self.lines.append(f"given: {record.getMessage()} {given}")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, ours = Lines(), logging.getLogger("redrive")
    logging.getLogger().addHandler(handler)
    level = ours.level
    ours.setLevel("DEBUG")
    yield handler.lines
    ours.setLevel(level)
    logging.getLogger().removeHandler(handler)


def poison(topic: str) -> list[FakeRecord]:
    """Bodies with something personal wherever they can be wrong, and records of somebody else's."""
    found: list[FakeRecord] = []
    for value in PLANTED:
        every = list(planted_records(topic, value))
        found += islice(every, 0, None, max(len(every) // OF_EACH, 1))
    ours = record(topic, "stripe", payment(1))
    for name, _ in ours.headers:
        headers = [(key, EVERYTHING.encode() if key == name else value) for key, value in ours.headers]
        without = [header for header in headers if header[0] != name]
        found += [replace(ours, headers=headers), replace(ours, headers=without)]
        found.append(replace(ours, headers=headers, value=EVERYTHING.encode()))
    long = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(150))
    found.append(record(topic, "stripe", payment(EVERYTHING + long)))  # Too long for an index.
    return [replace(one, partition=number % PARTITIONS) for number, one in enumerate(found)]


def leaks(texts: list[str]) -> dict[str, list[str]]:
    return {text: found for text in texts if (found := traces(text))}


async def test_poison_leaves_no_trace_of_its_body_outside_the_log(
    stack: Stack,
    topic: str,
    database_url: str,
    connection: Any,
    tmp_path: Path,
    lines: list[str],
    read_topic: Callable[[str], Awaitable[list[Any]]],
) -> None:
    records = poison(topic)
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, len(records)), "the fold")
    reasons = {row["reason"] for row in await connection.fetch(
        "SELECT DISTINCT split_part(error, ':', 1) AS reason FROM redrive.event_index WHERE status = 'dead'"
    )}  # fmt: skip
    assert reasons >= {"unparsable", "invalid_payload", "refused_by_database", "bad_envelope", "unknown_provider"}
    errors = [row["error"] for row in await connection.fetch("SELECT DISTINCT error FROM redrive.event_index")]
    assert not leaks([error for error in errors if error])
    dead = [one for one in await read_topic(DEAD_LETTER) if one.key.decode().startswith(topic + "/")]
    assert len([line for line in lines if '"an event went to the dead letters"' in line]) >= len(dead) > 90
    assert not leaks([dict(one.headers)["redrive_error"].decode() for one in dead])
    assert not leaks(lines)


def test_a_traceback_says_where_and_quotes_nothing(lines: list[str]) -> None:
    refused: Any = asyncpg.PostgresError.new({"C": "40001", "M": "could not serialize", "D": f"Row ({EVERYTHING})."})
    try:
        try:
            int(EVERYTHING)
        except ValueError as error:
            raise RuntimeError(f"no number: {EVERYTHING}") from error
    except RuntimeError as error:
        metrics.fold_failed(error)
        metrics.fold_failed(ExceptionGroup(EVERYTHING, [error, refused]))
        ingest_metrics.handler_failed("stripe")
    metrics.database_failed(refused, None)
    ingest_metrics.append_refused("webhooks.stripe", refused, 1)
    assert not leaks(lines)
    assert "ValueError at integration/test_private_logs.py:" in lines[0]
    assert "could not serialize (40001)" in lines[6]


def test_a_conflict_is_logged_by_a_masked_id(lines: list[str]) -> None:
    ingest_metrics.accepted("private", f"SM1:{EMAIL}", 0, is_conflict=True)
    ingest_metrics.duplicate("private", "%2B33698765432:sent")
    assert "SM1:z•••@example.com" in lines[0]
    assert "%2B33•••5432:sent" in lines[2]
    assert not leaks(lines)


def test_what_a_library_writes_is_masked_too(lines: list[str]) -> None:
    log = logging.getLogger("somebody.else")
    log.warning("sent to %s\nbody: %s", EMAIL, TOKEN, extra={"body": EVERYTHING})
    assert "sent to z•••@example.com" in lines[0]
    assert not leaks(lines)
