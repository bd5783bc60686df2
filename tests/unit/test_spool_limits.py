"""The spool on a full disk, and beside other processes."""

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ingest.spool import spool as spool_module
from ingest.spool.spool import Spool
from schemas.errors import Misconfigured, Unavailable
from tests.support.spools import MEBIBYTE, kept, opened, reopened, segment, spooled, written


async def test_a_disk_that_fails_at_the_close_as_well_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, _ = opened(tmp_path)
    assert await kept(spool, spooled(1)) == [True]

    def close_and_fail(file: BinaryIO, _: bytes) -> None:
        file.close()
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "write_all", close_and_fail)
        assert await kept(spool, spooled(2)) == [False]
    assert await kept(spool, spooled(3)) == [True]
    await spool.stop()
    assert [one.record.key for one in await reopened(tmp_path)] == [b"evt_1", b"evt_3"]


async def test_a_full_spool_takes_no_more_and_goes_on_once_it_is_drained(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path, 5000)
    assert await kept(spool, spooled(1, 1500), spooled(2, 1500)) == [True, True]
    with pytest.raises(Unavailable):
        spool.put(spooled(3, 1500), lambda _: None)
    for each in await spool.sealed():
        spool.drop(each)
    assert await kept(spool, spooled(3, 1500)) == [True]
    await spool.stop()


async def test_what_is_being_written_while_the_last_of_the_rest_is_drained_is_drained_as_well(tmp_path: Path) -> None:
    """The drain asks the log about the topics that are there: a topic that it does not hear of waits for ever."""
    spool, _ = opened(tmp_path)
    assert await kept(spool, spooled(1)) == [True]
    (segment,) = await spool.sealed()
    disk_is_free = threading.Event()
    spool._thread.submit(disk_is_free.wait)
    writing = asyncio.create_task(kept(spool, spooled(2)))
    while spool._waiting or spool._writing is None:
        await asyncio.sleep(0)
    spool.drop(segment)
    disk_is_free.set()
    assert await writing == [True]
    assert spool.has_records.is_set()
    assert spool.topics == {"webhooks.stripe"}
    await spool.stop()


async def test_a_full_disk_is_said_and_costs_no_other_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, _ = opened(tmp_path)
    first, lost, last = spooled(1), spooled(2), spooled(3)
    assert await kept(spool, first) == [True]

    def half(file: BinaryIO, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "write_all", half)
        assert await kept(spool, lost) == [False]
    assert await kept(spool, last) == [True]
    await spool.stop()
    assert await reopened(tmp_path) == [first, last]


async def test_a_full_disk_is_not_filled_with_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool, _ = opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "write_segment", full)
        for number in range(3):
            assert await kept(spool, spooled(number)) == [False]
    assert list(tmp_path.glob("segment-*")) == []
    last = spooled(4)
    assert await kept(spool, last) == [True]
    await spool.stop()
    assert await reopened(tmp_path) == [last]


async def test_two_processes_never_share_a_spool(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    with pytest.raises(Misconfigured, match="REDRIVE_DATA"):
        opened(tmp_path)
    await spool.stop()
    await reopened(tmp_path)


async def test_a_process_that_is_no_more_leaves_its_records_to_another(tmp_path: Path) -> None:
    theirs = await written(tmp_path / "1", 3)
    ours = await written(tmp_path / "0", 2)
    spool = Spool(tmp_path / "0", MEBIBYTE)
    assert list(spool.open([tmp_path / "1"])) == ours + theirs
    await spool.stop()
    assert await reopened(tmp_path / "1") == []


async def test_a_living_process_keeps_its_records(tmp_path: Path) -> None:
    theirs, _ = opened(tmp_path / "1")
    assert await kept(theirs, spooled(1)) == [True]
    with pytest.raises(Misconfigured, match="REDRIVE_DATA"):
        list(Spool(tmp_path / "0", MEBIBYTE).open([tmp_path / "1"]))
    assert segment(tmp_path / "1").exists()
    await theirs.stop()


async def test_what_is_set_aside_can_be_put_back(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    one = spooled(1)
    spool.set_aside(one, "too large")
    await spool.stop()
    aside = next((tmp_path / "set-aside").iterdir())
    aside.rename(tmp_path / "segment-00000009.spool")
    assert await reopened(tmp_path) == [one]


async def test_a_spool_that_is_off_keeps_nothing_and_still_offers_what_is_there(tmp_path: Path) -> None:
    records = await written(tmp_path, 2)
    spool, found = opened(tmp_path, 0)
    assert found == records
    with pytest.raises(Unavailable):
        spool.put(spooled(9), lambda _: None)
    await spool.stop()
