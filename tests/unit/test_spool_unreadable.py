"""Invariant 1 on a bad disk: a file that can't be read ends no start, holds up no other file, and is tried again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.spool_folder import spool_state
from ingest import metrics
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.window import IN_SPOOL, Claim, DedupeWindow, content_of
from ingest.log.record_batch import LogRecord, VerifiedRecord
from ingest.spool.segment import SpooledRecord, new_mark, segment_name, write_segment
from ingest.spool.spool import Spool
from schemas.settings import Settings

TOPIC = "webhooks.stripe"


def spooled(number: int) -> SpooledRecord:
    record = LogRecord(TOPIC, f"evt_{number}".encode(), b"{}", 1_700_000_000_000 + number, [])
    return SpooledRecord(VerifiedRecord(record), bytes([number]) * 32)


def write(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mark = new_mark()
    path = folder / segment_name(number, mark)
    with path.open("wb") as file:
        write_segment(file, mark, [spooled(number)])
    return path


def hide(path: Path) -> Path:
    """A folder in its place is as unreadable as a bad sector, to root, too."""
    hidden = path.with_name(f"hidden-{path.name}")
    path.rename(hidden)
    path.mkdir()
    return hidden


async def opened(folder: Path, *abandoned: Path) -> list[SpooledRecord]:
    spool = Spool(folder, 1024 * 1024)
    found = list(spool.open(abandoned))
    await spool.stop()
    return found


@pytest.mark.parametrize("owner", ["0", "1"])
async def test_a_file_that_cannot_be_read_ends_no_start_and_is_read_once_it_can_be(tmp_path: Path, owner: str) -> None:
    """Also in the folder of a process that is no more."""
    own, theirs = tmp_path / "spool" / "0", tmp_path / "spool" / owner
    path = write(theirs, 1)
    write(theirs, 2)
    write(own, 3)
    hidden = hide(path)
    before = metrics.SPOOL_UNREADABLE._value.get()
    found = await opened(own, *([theirs] if owner == "1" else []))
    assert sorted(one.record.key for one in found) == [b"evt_2", b"evt_3"]
    assert metrics.SPOOL_UNREADABLE._value.get() == before + 1
    state = spool_state(Settings.model_validate({"data": tmp_path}))
    assert any("can't be read" in warning for warning in state.warnings)
    # Its cause is corrected.
    (moved,) = (theirs / "unreadable").iterdir()
    moved.rmdir()
    hidden.rename(moved)
    found = await opened(own, *([theirs] if owner == "1" else []))
    assert sorted(one.record.key for one in found) == [b"evt_1", b"evt_2", b"evt_3"]
    assert not spool_state(Settings.model_validate({"data": tmp_path})).unreadable


async def test_damage_that_a_full_disk_cannot_keep_stays_where_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-1])
    # No folder can be made there.
    (tmp_path / "damaged").write_bytes(b"")
    assert await opened(tmp_path) == []
    assert path.exists()
    (tmp_path / "damaged").unlink()
    assert await opened(tmp_path) == []
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert not path.exists()


def test_what_the_successor_of_a_dead_process_did_not_find_may_come_again() -> None:
    """Two records are in a process's spool; it is killed, and one of them is damaged before the next one reads it."""
    table = IdTable(1000, is_shared=True)
    window = DedupeWindow(table, 10_000)
    contents = [content_of(TOPIC, f"evt_{number}", b"f" * 32) for number in (0, 1)]
    script = f"""
import sys
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.window import DedupeWindow, content_of
window = DedupeWindow(IdTable(1000, descriptor={table.descriptor}), 10_000)
window.has_read_spool(1)
for number in (0, 1):
    window.spooled(window.claim(content_of({TOPIC!r}, f"evt_{{number}}", b"f" * 32), 1000))
print("spooled", flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[table.descriptor or 0],
        env=environment,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"spooled\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    # Its spool is there, and nobody has looked into it yet.
    assert [window.claim(one, 1001) for one in contents] == [IN_SPOOL, IN_SPOOL]
    assert window.remember_spooled(contents[0], 1000)
    window.has_read_spool(1)
    assert window.claim(contents[0], 1002) is IN_SPOOL
    assert isinstance(window.claim(contents[1], 1002), Claim)
