"""Everything a replay and the console count, as verbs."""

import contextlib
import logging
import time
from collections.abc import Collection
from typing import Final, Literal, get_args

import asyncpg
from prometheus_client import Counter, Gauge

from processors.store import Written
from replay.jobs.target_delivery import Sent
from schemas.errors import RedriveError, Unavailable, code_of
from schemas.masking import describe
from schemas.outage import Outage

log: Final = logging.getLogger("redrive.console")
RECORDS: Final = Counter("redrive_replay_records", "Records re-driven.", ["outcome"])
FAILURES: Final = Counter("redrive_console_failures", "Requests that ended in an error of ours.")
PROGRESS: Final = Gauge("redrive_replay_progress_ratio", "How far a running replay is.", ["replay"])

REFUSED: Final = Counter("redrive_console_refusals", "Requests with a wrong key, or refused unchecked.", ["reason"])

PROOF_VERDICT: Final = Gauge("redrive_proof_last_verdict", "1 for the verdict of the last proof.", ["verdict"])
PROOF_SECONDS: Final = Gauge("redrive_proof_last_seconds", "How long the last completed proof took.")
_VERDICTS: Final = ("equal", "different", "incomplete", "failed")


def proof_done(verdict: str, conclusion: str, seconds: float) -> None:
    for one in _VERDICTS:
        PROOF_VERDICT.labels(one).set(one == verdict)
    PROOF_SECONDS.set(seconds)
    is_equal = verdict == "equal"
    line = {"action": "prove", "outcome": verdict, "code": None if is_equal else f"proof_{verdict}"}
    log.log(logging.INFO if is_equal else logging.ERROR, "the tables were proved: %s", conclusion, extra=line)


def proof_failed(error: Exception) -> None:
    """Within the `except` that caught it. Where a dependency is away, a traceback says nothing more."""
    for one in _VERDICTS:
        PROOF_VERDICT.labels(one).set(one == "failed")
    line = {"action": "prove", "outcome": "failed", "code": code_of(error, "proof_failed")}
    log.error("a proof failed: %s", describe(error), exc_info=not isinstance(error, Unavailable), extra=line)


SLOWED: Final = Gauge("redrive_replays_slowed", "Replays that are run here and give way, or wait.", ["reason"])
Slowed = Literal["live_traffic", "waiting"]
_slowed: Final[dict[str, Slowed]] = {}
REPLAY_FAILURES: Final = Counter("redrive_replay_failures", "Replays that ended in an error.")
_done: Final[list[str]] = []
DONE_SHOWN: Final = 20
"""Replays that are shown after their end, so that a scrape sees it."""


def batch_redriven(replay: str, records: int, outcome: Written | Sent, ratio: float) -> None:
    """After its commit."""
    if isinstance(outcome, Sent):
        RECORDS.labels("delivered").inc(records - outcome.failed)
        RECORDS.labels("failed").inc(outcome.failed)
    else:
        RECORDS.labels("applied").inc(records - outcome.dead_records)
        RECORDS.labels("dead").inc(outcome.dead_records)
    PROGRESS.labels(replay).set(ratio)


def letters_requeued(revived: int, dead: int) -> None:
    RECORDS.labels("applied").inc(revived)
    RECORDS.labels("dead").inc(dead)


def replay_begun(replay: str) -> None:
    log.info("a replay is run here", extra={"action": "replay", "replay": replay})


def replay_slowed(replay: str, reason: Slowed | None) -> None:
    """`waiting`: for the database, the log or a target; None: no longer."""
    _slowed.pop(replay, None)
    if reason is not None:
        _slowed[replay] = reason
    for one in get_args(Slowed):
        SLOWED.labels(one).set(list(_slowed.values()).count(one))


def replay_let_go(replay: str) -> None:
    """It may go on elsewhere: how far it is is no longer ours to say."""
    replay_slowed(replay, None)
    with contextlib.suppress(KeyError):
        PROGRESS.remove(replay)


def replay_runner_frozen(replay: str, runner: str) -> None:
    """Its session was ended, so that it can be taken over."""
    log.warning(
        "a replay is taken over: the process that runs it has not been heard of for 30 s",
        extra={
            "action": "replay",
            "outcome": "taken_over",
            "code": "session_frozen",
            "replay": replay,
            "runner": runner,
        },
    )


def replay_done(replay: str) -> None:
    replay_slowed(replay, None)
    PROGRESS.labels(replay).set(1)
    _done.append(replay)
    while len(_done) > DONE_SHOWN:
        replay_let_go(_done.pop(0))


def replay_given_up(replay: str, error: BaseException) -> None:
    replay_let_go(replay)
    REPLAY_FAILURES.inc()
    log.error(
        "a replay failed: %s",
        describe(error),
        extra={"action": "replay", "replay": replay, "outcome": "failed", "code": code_of(error, "internal_error")},
        exc_info=None if isinstance(error, RedriveError) else error,
    )


def replay_failed(replay: str) -> None:
    """Within the `except` that caught it: a bug of ours, outside the replay's own work."""
    REPLAY_FAILURES.inc()
    log.exception("running replays failed", extra={"action": "replay", "replay": replay, "code": "internal_error"})


def console_refused(reason: str) -> None:
    """`wrong_key` or `throttled`."""
    REFUSED.labels(reason).inc()


def request_failed(method: str) -> None:
    """Within the `except` that caught it. The path may name an event, so it is not said."""
    FAILURES.inc()
    log.exception("a request failed", extra={"action": "console", "method": method, "code": "internal_error"})


BEHIND: Final = Gauge(
    "redrive_generation_behind_records", "Offsets between a generation that is kept and the live one.", ["generation"]
)
FLIPS: Final = Counter("redrive_flips", "Times that another generation went live.")
FOLLOW_FAILURES: Final = Counter("redrive_follow_failures", "Times that a generation could not be kept caught up.")
SCRATCH_FAILURES: Final = Counter("redrive_scratch_failures", "Snapshots that the console could not create.")


_kept: Final[set[int]] = set()


def generation_followed(generation: int, behind: int) -> None:
    _kept.add(generation)
    BEHIND.labels(str(generation)).set(behind)


def generations_kept(generations: Collection[int]) -> None:
    """Drop the metrics of generations that went live or were dropped."""
    for gone in _kept.difference(generations):
        _kept.discard(gone)
        BEHIND.remove(str(gone))


def generation_flipped(generation: int) -> None:
    FLIPS.inc()
    line = {"action": "flip", "outcome": "live", "code": "generation_live", "generation": generation}
    log.warning("generation %d is live", generation, extra=line)


def scratch_failed(error: BaseException) -> None:
    SCRATCH_FAILURES.inc()
    log.warning(
        "a snapshot could not be created: %s",
        describe(error),
        extra={"action": "as_of", "outcome": "failed", "code": code_of(error, "internal_error")},
    )


_follow_outage: Final = Outage()


def follow_failed(error: BaseException) -> None:
    """Counted at each try, and told once."""
    FOLLOW_FAILURES.inc()
    if _follow_outage.begins(time.monotonic()):
        is_away = isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.PostgresError)
        code = code_of(error, "database_unavailable" if is_away else "internal_error")
        line = {"action": "follow", "outcome": "lost", "code": code}
        log.warning("generations can't be kept caught up: %s", describe(error), extra=line)


def followed() -> None:
    seconds = _follow_outage.ends(time.monotonic())
    if seconds is not None:
        line = {"action": "follow", "outcome": "back", "seconds": round(seconds, 1)}
        log.info("generations are kept caught up again", extra=line)
