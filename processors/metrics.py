"""Everything the processors count, as verbs that count and log. Never logs bodies, or ids and errors unmasked."""

import collections
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import Counter, Gauge, Histogram

from processors.outcome import Dead, Folded
from schemas.errors import DatabaseUnavailable, LogUnavailable, code_of
from schemas.masking import describe, mask_id
from schemas.outage import Outage
from schemas.topics import source_of

log: Final = logging.getLogger("redrive.processors")

RECORDS: Final = Counter("redrive_processors_records", "Records folded.", ["source", "outcome"])
LAG: Final = Gauge(
    "redrive_processors_lag_records",
    "Records in the log past the position.",
    ["topic", "partition"],
    # Each process tells of every partition; of several, who looked last.
    multiprocess_mode="mostrecent",
)
BATCH_SECONDS: Final = Histogram(
    "redrive_processors_batch_seconds",
    "Time from a batch's decoding to its commit.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
DEAD_LETTERS: Final = Counter("redrive_dead_letters", "Events that no projection could apply.", ["source", "reason"])
RETRIES: Final = Counter("redrive_processors_retries", "Batches tried again after the database failed.", ["reason"])
REWINDS: Final = Counter("redrive_processors_rewinds", "Batches read again because the stored position was behind.")
LOST_RECORDS: Final = Gauge(
    "redrive_lost_records",
    "Offsets that the log dropped before they were folded.",
    ["topic", "partition"],
    multiprocess_mode="mostrecent",
)
TOPICS_REPLACED: Final = Counter(
    "redrive_processors_topics_replaced",
    "Partitions whose topic was created again: folded from the start.",
    ["topic"],
)
MISSING_TOPICS: Final = Gauge(
    "redrive_processors_missing_topics",
    "1 for a topic of a configured source that is not there.",
    ["topic"],
    multiprocess_mode="mostrecent",
)
UNREADABLE: Final = Gauge(
    "redrive_processors_unreadable_partitions",
    "1 for a partition that rests at a record that can't be read.",
    ["topic", "partition"],
    multiprocess_mode="mostrecent",
)
_lagging: Final[set[TP]] = set()
"""The partitions whose lag was set last."""


def batch_folded(folded: Iterable[Folded], letters: Iterable[Dead], seconds: float) -> None:
    """Count what a committed batch did, by the best outcome of each record's events."""
    dead = collections.Counter([letter.raw.offset for letter in letters])
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for one in folded:
        if dead[one.raw.offset] >= len(one.events) + len(one.letters):
            # Not what the record says: whoever else writes to the topic may say anything.
            counts[source_of(one.raw.topic), "dead"] += 1
        else:
            counts[one.source, "applied" if "applied" in [event.status for event in one.events] else "ignored"] += 1
    for (source, outcome), count in counts.items():
        RECORDS.labels(source, outcome).inc(count)
    BATCH_SECONDS.observe(seconds)


LINES_PER_RECORD: Final = 10
"""A record may hold thousands of dead events, and the fold waits while they are logged: the index names all."""


def events_dead(letters: Iterable[Dead]) -> None:
    by_record: dict[tuple[str, int, int], list[Dead]] = {}
    for letter in letters:
        DEAD_LETTERS.labels(source_of(letter.raw.topic), letter.reason).inc()
        by_record.setdefault((letter.raw.topic, letter.raw.partition, letter.raw.offset), []).append(letter)
    for (topic, partition, offset), dead in by_record.items():
        place = {"source": source_of(topic), "location": f"{topic}/{partition}/{offset}"}
        for letter in dead[:LINES_PER_RECORD]:
            named = {"event_id": mask_id(letter.event.event_id), "outcome": "dead", "code": letter.reason}
            log.warning("an event went to the dead letters", extra={"action": "fold", **named, **place})
        if len(dead) > LINES_PER_RECORD:
            log.warning(
                "%d more events of the record went to the dead letters; `redrive events list --status dead` names them",
                len(dead) - LINES_PER_RECORD,
                extra={"action": "fold", "outcome": "dead", "code": dead[LINES_PER_RECORD].reason, **place},
            )


_fold_outage: Final = Outage()
_lag_outage: Final = Outage()


def database_failed(error: BaseException, tp: TP | None) -> None:
    """Counted at each try, and told once, until one of those that it held up is taken."""
    RETRIES.labels(type(error).__name__).inc()
    location = _location(tp)
    if _fold_outage.begins(time.monotonic(), location):
        who = (
            "Kafka does not take the dead letters of"
            if isinstance(error, LogUnavailable)
            else "the database does not take"
        )
        log.warning(
            "%s a batch; it is tried again until it does: %s",
            who,
            _reason(error),
            extra={
                "action": "fold",
                "outcome": "lost",
                "code": code_of(error, DatabaseUnavailable.code),
                "location": location,
            },
        )


def session_ended(pid: int) -> None:
    log.warning(
        "a session of Postgres was ended: its process froze while it sent, and kept others waiting",
        extra={"action": "fold", "outcome": "ended", "code": "session_frozen", "pid": pid},
    )


def database_took(tp: TP | None) -> None:
    """A batch; None: it said where to read from, and what was held up before may be others' by now."""
    now = time.monotonic()
    seconds = _fold_outage.ends_for_all(now) if tp is None else _fold_outage.ends(now, _location(tp))
    if seconds is not None:
        line = {"action": "fold", "outcome": "back", "location": _location(tp), "seconds": round(seconds, 1)}
        log.info("the database takes batches again", extra=line)


def _reason(error: BaseException) -> str:
    """Only asyncpg's waits end in a bare TimeoutError, which does not say who is silent."""
    return "Postgres does not answer in time" if isinstance(error, TimeoutError) and not str(error) else describe(error)


def _location(tp: TP | None) -> str:
    return f"{tp.topic}/{tp.partition}" if tp else ""


def lag_unread(error: BaseException) -> None:
    if _lag_outage.begins(time.monotonic()):
        code = code_of(error, "log_unavailable" if isinstance(error, KafkaError) else "database_unavailable")
        line = {"action": "note_lag", "outcome": "lost", "code": code}
        log.warning("the lag can't be read: %s", _reason(error), extra=line)


def lag_read() -> None:
    seconds = _lag_outage.ends(time.monotonic())
    if seconds is not None:
        line = {"action": "note_lag", "outcome": "back", "seconds": round(seconds, 1)}
        log.info("the lag is read again", extra=line)


def fold_failed(error: BaseException) -> None:
    """A bug of ours: the batch is read again, for ever, and this says so."""
    RETRIES.labels(type(error).__name__).inc()
    log.error(
        "a batch could not be folded; reading it again",
        exc_info=error,
        extra={"action": "fold", "outcome": "failed", "code": "internal_error"},
    )


def batch_rewound(topic: str, partition: int, start: int, stored: int) -> None:
    REWINDS.inc()
    log.warning(
        "a batch starts past the stored position; reading again from there",
        extra={
            "action": "rewind",
            "outcome": "rewound",
            "code": "position_behind",
            "location": f"{topic}/{partition}/{stored}",
            "start": start,
        },
    )


def range_lost(topic: str, partition: int, first: int, end: int) -> None:
    _log_lost(
        "the log no longer holds records that were never folded: see redrive.lost_ranges", topic, partition, first, end
    )


def log_restored(topic: str, partition: int, first: int, end: int) -> None:
    _log_lost(
        "the log was restored to an older state and has grown since: all of it is folded again",
        topic,
        partition,
        first,
        end,
    )


def _log_lost(message: str, topic: str, partition: int, first: int, end: int) -> None:
    line = {"action": "seek", "outcome": "lost", "code": "range_lost"}
    log.error(message, extra={**line, "location": f"{topic}/{partition}/{first}", "end": end})


def note_lag(lag: Mapping[TP, int]) -> None:
    """Set the lag of these partitions and no others; a process can't remove a value from its siblings, and sets 0."""
    for tp in _lagging - lag.keys():
        LAG.labels(*tp).set(0)
    LAG.clear()
    for tp, records in lag.items():
        LAG.labels(*tp).set(records)
    _lagging.clear()
    _lagging.update(lag)


def topics_missing(names: Collection[str], before: Collection[str]) -> None:
    """Which topics of configured sources are not there, and which were not the last time that somebody looked."""
    for name in {*names, *before}:
        MISSING_TOPICS.labels(name).set(int(name in names))
    for name in sorted({*names} - {*before}):
        log.error(
            "the topic %s is missing, and not folded; the others are: `redrive topics --apply` creates it",
            name,
            extra={
                "action": "look_for_topics",
                "outcome": "missing",
                "code": "topic_missing",
                "source": source_of(name),
            },
        )
    for name in sorted({*before} - {*names}):
        log.info(
            "the topic %s is there again",
            name,
            extra={"action": "look_for_topics", "outcome": "found", "source": source_of(name)},
        )


def partition_unreadable(topic: str, partition: int, offset: int, error: BaseException) -> None:
    UNREADABLE.labels(topic, partition).set(1)
    log.error(
        "the record can't be read, and its partition rests there; the others are folded: %s",
        describe(error),
        extra={
            "action": "fetch",
            "source": source_of(topic),
            "outcome": "unreadable",
            "code": "record_unreadable",
            "location": f"{topic}/{partition}/{offset}",
        },
    )


def partition_readable(topic: str, partition: int) -> None:
    UNREADABLE.labels(topic, partition).set(0)
    line = {"action": "fetch", "source": source_of(topic), "outcome": "back", "location": f"{topic}/{partition}"}
    log.info("the partition no longer rests at a record that can't be read", extra=line)


def topic_replaced(topic: str, partition: int, position: int) -> None:
    TOPICS_REPLACED.labels(topic).inc()
    log.error(
        "the topic was created again: it is folded from its start; redrive.lost_ranges lists the folded part of the"
        " old one",
        extra={
            "action": "seek",
            "outcome": "replaced",
            "code": "topic_replaced",
            "location": f"{topic}/{partition}/0",
            "end": position,
        },
    )


def generation_moved(generation: int) -> None:
    log.info("another generation is live", extra={"action": "seek", "outcome": "moved", "generation": generation})
