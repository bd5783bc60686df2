"""Invariants 1, 4, 5, 7 and 8 over simulated histories; and that the simulation would notice if they did not hold.

`SIM_SEEDS` is the number of histories; `make simulate` runs many more. `make test` takes the same always, and `make test-all` new ones.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ingest.append_or_spool import DeliveryOutcome, Storing
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.window import Claim, DedupeWindow
from ingest.spool.drain import Drain
from ingest.spool.spool import Spool
from schemas.lattice import Table
from tests.simulation.disk import System
from tests.simulation.folding import Database
from tests.simulation.jobs import Job, Runners
from tests.simulation.world import simulate
from tests.support.amounts import amount, new_seed

SEEDS = int(os.environ.get("SIM_SEEDS", amount(100, 300)))
ROOT = Path(__file__).parents[2]
MOST = 150
"""Seeds until a defect must have shown."""


def test_whatever_happens_what_was_acknowledged_is_kept_and_the_tables_are_the_merge_of_the_log() -> None:
    first = new_seed()
    print(f"seeds {first} to {first + SEEDS - 1}: python -m tests.simulation --first SEED --seeds 1")
    failed = {
        outcome.seed: outcome.failures for outcome in map(simulate, range(first, first + SEEDS)) if outcome.failures
    }
    assert not failed


def test_a_seed_is_one_history_in_any_process() -> None:
    """A failing seed must reproduce: nothing may depend on the clock, on addresses, or on the hashes of strings."""
    seeds = range(40, 46)
    here = [simulate(seed).digest for seed in seeds]
    script = f"from tests.simulation.world import simulate\nprint([simulate(n).digest for n in {list(seeds)}])"
    for hashes in ("0", "7"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        there = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert there.stdout.strip() == str(here)


def first_failure() -> str:
    for number in range(MOST):
        if failures := simulate(number).failures:
            return failures[0]
    return f"{MOST} seeds found nothing"


def test_it_notices_a_spool_that_answers_before_the_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(System, "fsync", lambda *_: None)
    assert "neither on the log nor in the spool" in first_failure()


def test_it_notices_a_segment_that_is_dropped_before_it_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drop_at_once(self: Drain, segment: Any) -> bool:
        self._spool.drop(segment)
        return True

    monkeypatch.setattr(Drain, "_drain", drop_at_once)
    assert "neither on the log nor in the spool" in first_failure()


def test_it_notices_copies_that_are_appended_without_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(self: DedupeWindow, content: Any, now_ms: int) -> Claim:
        return Claim(content, self._table.number_of(content.topic), 0, now_ms, now_ms, False)

    monkeypatch.setattr(DedupeWindow, "claim", always)
    assert "more than once" in first_failure()


def test_it_notices_a_drain_that_asks_nobody_what_is_on_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drain, "_is_done", lambda *_: False)
    assert "more than once" in first_failure()


def test_it_notices_a_window_that_does_not_read_the_log_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_nothing(*_: Any) -> int:
        return 0

    monkeypatch.setattr(WindowKeeper, "_read", read_nothing)
    assert "more than once" in first_failure()


def test_it_notices_a_spool_that_nobody_opens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_new(self: Spool) -> Any:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("segment-*.spool"):
            path.unlink()
        return iter(())

    monkeypatch.setattr(Spool, "open", open_new)
    assert "neither on the log nor in the spool" in first_failure()


def test_it_notices_an_answer_that_comes_before_the_record_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Storing.store

    def answer_first(self: Storing, source: Any, verified: Any, identity: Any, end: Any, *until: Any) -> None:
        end(DeliveryOutcome("spooled", identity.record_id))
        store(self, source, verified, identity, end, *until)

    monkeypatch.setattr(Storing, "store", answer_first)
    assert "neither on the log nor in the spool" in first_failure()


def test_it_notices_a_claim_that_outlives_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DedupeWindow, "_is_lost", lambda *_: False)
    assert "not settled" in first_failure()


def test_it_notices_a_position_that_skips_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(self: Database, at: Any, start: int, end: int, changes: Any) -> None:
        self.write(changes)
        self.positions[at] = max(self.positions.get(at, 0), end)

    monkeypatch.setattr(Database, "commit_batch", commit)
    assert "rows" in first_failure()


def test_it_notices_a_replay_that_two_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfenced(self: Runners, job: Job, start: int, end: int) -> bool:
        job.position = max(job.position, end)
        job.counted += end - start
        return True

    monkeypatch.setattr(Runners, "advance", unfenced)
    assert "has not counted each record once" in first_failure()


def test_it_notices_a_merge_that_takes_the_last_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_wins(self: Table[Any], left: Any, right: Any) -> Any:
        return right

    monkeypatch.setattr(Table, "join", last_wins)
    assert "rows" in first_failure()
