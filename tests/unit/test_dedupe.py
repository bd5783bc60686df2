"""Invariant 4: one claim to a content, until its outcome; the window is bounded, and the same for all processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.dedupe import window as dedupe
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.window import CLAIM_MS, CLAIMED_ELSEWHERE, IN_SPOOL, Claim, DedupeWindow
from schemas.errors import Misconfigured
from tests.support.windows import TOPIC, WINDOW_MS, claimed, content, location


def test_a_copy_hears_where_its_first_is(window: DedupeWindow) -> None:
    claim = claimed(window, 1)
    assert window.claim(content(1), 1001) is CLAIMED_ELSEWHERE
    window.settle(claim, location(7))
    assert window.claim(content(1), 1002) == location(7)


def test_a_claim_that_came_to_nothing_is_the_next_copys(window: DedupeWindow) -> None:
    window.release(claimed(window, 1))
    assert isinstance(window.claim(content(1), 1001), Claim)


def test_an_entry_leaves_with_its_window(window: DedupeWindow) -> None:
    window.settle(claimed(window, 1), location(7))
    assert window.claim(content(1), 1000 + WINDOW_MS) == location(7)
    assert isinstance(window.claim(content(1), 1001 + WINDOW_MS), Claim)


def test_the_same_id_with_another_content_is_a_conflict_and_gets_a_claim_of_its_own(window: DedupeWindow) -> None:
    window.settle(claimed(window, 1), location(7))
    other = window.claim(content(1, b"g" * 32), 1001)
    assert isinstance(other, Claim)
    assert other.is_conflict
    window.settle(other, location(8))
    assert window.claim(content(1), 1002) == location(7)
    assert window.claim(content(1, b"g" * 32), 1002) == location(8)


def test_another_content_of_an_id_is_found_nowhere(window: DedupeWindow) -> None:
    """The drain asks: it would drop a spooled conflict for what is on the log."""
    window.settle(claimed(window, 1), location(7))
    assert window.find(content(1)) == location(7)
    assert window.find(content(1, b"g" * 32)) is None


def test_what_is_in_the_spool_is_durable_and_later_on_the_log(window: DedupeWindow) -> None:
    claim = claimed(window, 1)
    window.spooled(claim)
    assert window.claim(content(1), 1001) is IN_SPOOL
    assert window.find(content(1)) is None
    window.remember(content(1), location(9), 1000)
    assert window.claim(content(1), 1002) == location(9)


def test_the_oldest_leaves_first_and_no_more_than_the_bound_are_kept() -> None:
    window = DedupeWindow(IdTable(3), WINDOW_MS)
    for number in range(5):
        window.settle(claimed(window, number), location(number))
    found = [window.find(content(number)) for number in range(5)]
    assert found == [None, None, location(2), location(3), location(4)]


def test_a_full_table_finds_what_it_holds() -> None:
    window = DedupeWindow(IdTable(2000), WINDOW_MS)
    for number in range(7000):
        window.settle(claimed(window, number), location(number))
    assert [n for n in range(7000) if window.find(content(n)) != (location(n) if n >= 5000 else None)] == []


def test_a_claim_ends_with_its_process() -> None:
    """It died between its claim and the append: the next copy takes over, and nothing is eaten."""
    table = IdTable(1000, is_shared=True)
    window = DedupeWindow(table, WINDOW_MS)
    script = f"""
import os, signal, sys
from ingest.dedupe.window import DedupeWindow, content_of
from ingest.dedupe.id_table import IdTable
window = DedupeWindow(IdTable(1000, descriptor={table.descriptor}), {WINDOW_MS})
window.claim(content_of({TOPIC!r}, "evt_1", b"f" * 32), 1000)
print("claimed", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[table.descriptor or 0],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"claimed\n"
    assert window.claim(content(1), 1001) is CLAIMED_ELSEWHERE
    child.send_signal(signal.SIGKILL)
    child.wait()
    taken = window.claim(content(1), 1002)
    assert isinstance(taken, Claim)
    window.settle(taken, location(1))
    assert window.claim(content(1), 1003) == location(1)


class SteadyClock:
    """Stands for the module `time` in `dedupe`."""

    def __init__(self) -> None:
        self.ms = 5000

    def monotonic(self) -> float:
        return self.ms / 1000


@pytest.fixture
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> SteadyClock:
    clock = SteadyClock()
    monkeypatch.setattr(dedupe, "time", clock)
    return clock


def test_a_claim_of_a_living_process_that_lost_it_expires(window: DedupeWindow, steady_clock: SteadyClock) -> None:
    claimed(window, 1)
    steady_clock.ms += CLAIM_MS
    assert window.claim(content(1), 1001) is CLAIMED_ELSEWHERE
    steady_clock.ms += 1
    assert isinstance(window.claim(content(1), 1002), Claim)


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
def test_whoever_sets_the_time_of_day_ends_no_claim(window: DedupeWindow, jump_ms: int) -> None:
    claim = claimed(window, 1, 10_000_000)
    assert window.claim(content(1), 10_000_000 + jump_ms) is CLAIMED_ELSEWHERE
    window.settle(claim, location(7))
    assert window.claim(content(1), 10_000_000) == location(7)


def test_a_claim_that_was_taken_over_is_not_its_first_owners_to_release(
    window: DedupeWindow, steady_clock: SteadyClock
) -> None:
    late = claimed(window, 1)
    steady_clock.ms += CLAIM_MS + 1
    taken = window.claim(content(1), 1001)
    assert isinstance(taken, Claim)
    window.settle(late, location(7))
    window.release(taken)
    assert window.claim(content(1), 1002) == location(7)


def test_a_table_of_another_size_is_refused() -> None:
    table = IdTable(1000, is_shared=True)
    with pytest.raises(Misconfigured, match="DEDUPE_MAX_IDS"):
        IdTable(500, descriptor=table.descriptor)


def test_what_was_on_a_topic_that_was_made_anew_is_nowhere(window: DedupeWindow) -> None:
    window.settle(claimed(window, 1), location(7))
    under_way = claimed(window, 2)
    window.spooled(claimed(window, 3))
    window.forget(TOPIC)
    assert window.find(content(1)) is None
    again = claimed(window, 1)
    assert not again.is_conflict
    window.settle(again, location(0))
    assert window.claim(content(1), 1002) == location(0)
    # It may have been appended to the old one.
    window.settle(under_way, location(8))
    assert isinstance(window.claim(content(2), 1002), Claim)
    # That is not on any topic yet.
    assert window.claim(content(3), 1002) is IN_SPOOL
