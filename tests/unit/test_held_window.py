"""Invariants 1 and 4: a process that is stopped while it holds the shared window costs the others a look at it, and
nothing else.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.late_notes import LateNotes
from ingest.dedupe.other_log import AckedEnds
from ingest.dedupe.table_lock import WindowHeld
from ingest.dedupe.window import CLAIMED_ELSEWHERE, IN_SPOOL, NOWHERE, Claim, DedupeWindow
from tests.support.waiting import until
from tests.support.windows import TOPIC, WINDOW_MS, claimed, content, location

HOLDER = """
import sys
from ingest.dedupe.id_table import IdTable
table = IdTable(1000, descriptor=int(sys.argv[1]))
for line in sys.stdin:
    {"lock": table.lock, "unlock": table.unlock}[line.strip()]()
    print("done", flush=True)
"""


class Holder:
    """A process that has the lock, and is stopped or goes on."""

    def __init__(self, table: IdTable) -> None:
        assert table.descriptor is not None
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(table.descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            pass_fds=[table.descriptor],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def do(self, what: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        assert self.process.stdout.readline() == "done\n"

    def stop(self) -> None:
        self.do("lock")
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.do("unlock")


@pytest.fixture
def table() -> IdTable:
    return IdTable(1000, is_shared=True)


@pytest.fixture
def holder(table: IdTable) -> Iterator[Holder]:
    found = Holder(table)
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.fixture
def shared(table: IdTable) -> DedupeWindow:
    found = DedupeWindow(table, WINDOW_MS)
    # The topic has its number, as after the first delivery.
    found.era(TOPIC)
    return found


def unclaimed(window: DedupeWindow, number: int) -> Claim:
    found = claimed(window, number)
    assert found.place == NOWHERE
    return found


def test_while_the_window_is_held_a_delivery_is_taken_without_it_and_nobody_waits_twice(
    table: IdTable,
    shared: DedupeWindow,
    holder: Holder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holder.stop()
    unclaimed(shared, 1)
    yields: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: yields.append(None))
    unclaimed(shared, 1)
    with pytest.raises(WindowHeld, match=str(holder.process.pid)):
        shared.find(content(1))
    assert table.is_held()
    assert yields == []
    (line,) = caplog.records
    assert (line.__dict__["code"], line.__dict__["pid"]) == ("window_held", holder.process.pid)


def test_a_thawed_holder_finds_everybody_with_the_window_again(
    table: IdTable, shared: DedupeWindow, holder: Holder, caplog: pytest.LogCaptureFixture
) -> None:
    holder.stop()
    without = unclaimed(shared, 1)
    caplog.clear()
    caplog.set_level("INFO")
    holder.thaw()
    assert not table.is_held()
    assert not table.is_held()
    assert [line.__dict__["outcome"] for line in caplog.records] == ["free"]
    shared.settle(without, location(7))
    assert shared.claim(content(1), 1001) == location(7)
    assert shared.claim(content(2), 1001) != CLAIMED_ELSEWHERE


def test_a_dead_holder_frees_the_window(table: IdTable, shared: DedupeWindow, holder: Holder) -> None:
    holder.stop()
    assert table.is_held()
    holder.process.kill()
    holder.process.wait()
    assert claimed(shared, 1).place != NOWHERE


async def test_what_the_window_could_not_hear_it_hears_in_order_once_it_is_free(
    shared: DedupeWindow, holder: Holder
) -> None:
    before = claimed(shared, 1)
    given_up = claimed(shared, 3)
    holder.stop()
    late = LateNotes()
    late.note(shared.settle, before, location(1))
    late.note(shared.settle, unclaimed(shared, 2), location(2))
    late.note(shared.release, given_up)
    late.note(shared.settle, unclaimed(shared, 3), location(3))
    holder.thaw()
    # Free again, but others come first: this claim would end as the release of the one before.
    again = shared.claim(content(3), 1001)
    assert again is CLAIMED_ELSEWHERE
    late.note(shared.remember, content(3), location(4), 1000)
    await until(lambda: shared.find(content(2)) == location(2), "the notes are heard")
    assert [shared.claim(content(n), 1001) for n in (1, 2, 3)] == [location(1), location(2), location(3)]


async def test_a_window_that_stays_held_keeps_a_bounded_number_of_notes(
    shared: DedupeWindow, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.dedupe.late_notes.MAX_NOTES", 2)
    holder.stop()
    late = LateNotes()
    for number in (1, 2, 3):
        late.note(shared.settle, unclaimed(shared, number), location(number))
    holder.thaw()
    await until(lambda: shared.find(content(3)) == location(3), "the last note is heard")
    # The keeper reads it from the log.
    assert isinstance(shared.claim(content(1), 1001), Claim)


def test_a_note_of_a_topic_that_was_made_anew_meanwhile_makes_no_duplicate(
    table: IdTable, shared: DedupeWindow, holder: Holder
) -> None:
    spooled_before = claimed(shared, 2)
    shared.spooled(spooled_before)
    era = shared.era(TOPIC)
    holder.stop()
    without = unclaimed(shared, 1)
    shared.forget(TOPIC)
    holder.thaw()
    assert not table.is_held()
    shared.settle(without, location(1))
    shared.landed(spooled_before, location(2))
    shared.remember(content(3), location(3), 1000, era=era)
    assert isinstance(shared.claim(content(1), 1001), Claim)
    assert shared.claim(content(2), 1001) is IN_SPOOL
    assert isinstance(shared.claim(content(3), 1001), Claim)


def test_a_process_that_starts_meanwhile_takes_deliveries_and_their_acknowledgements(
    table: IdTable, holder: Holder
) -> None:
    """It has no number for a topic, and can't get one."""
    DedupeWindow(table, WINDOW_MS).era(TOPIC)
    holder.stop()
    assert table.descriptor is not None
    started = DedupeWindow(IdTable(1000, descriptor=os.dup(table.descriptor)), WINDOW_MS)
    without = unclaimed(started, 1)
    AckedEnds(started).add(TOPIC, 3, 7, 1)
    holder.thaw()
    started.settle(without, location(7))
    assert isinstance(started.claim(content(1), 1001), Claim)
