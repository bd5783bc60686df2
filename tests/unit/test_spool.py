"""Invariant 1 while the log is away: what was said to be kept is there after a crash, and damage is found and told."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import metrics
from ingest.log.record_batch import VerifiedRecord
from ingest.spool.segment import FILE_HEAD_BYTES, Segment, SpooledRecord
from tests.support.spools import kept, opened, reopened, segment, spooled, written


async def test_what_was_kept_is_there_after_a_restart_to_the_byte(tmp_path: Path) -> None:
    assert await reopened(tmp_path) == []
    assert await written(tmp_path, 5) == await reopened(tmp_path)


async def test_a_torn_tail_costs_only_itself_and_is_told(tmp_path: Path) -> None:
    records = await written(tmp_path, 3)
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    before = metrics.SPOOL_DAMAGED._value.get()
    assert await reopened(tmp_path) == records[:2]
    assert metrics.SPOOL_DAMAGED._value.get() > before
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def garble(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def untouched(records: Sequence[SpooledRecord], start: int, end: int) -> list[SpooledRecord]:
    """Those of which a damage of the bytes from `start` to before `end` leaves all."""
    left, at = [], FILE_HEAD_BYTES
    for record in records:
        after = at + len(record.encode(bytes(8)))
        if end <= at or start >= after:
            left.append(record)
        at = after
    return left


@pytest.mark.parametrize("name", ["as it was written", "segment-00000001.spool"])
async def test_a_flipped_bit_costs_the_record_that_it_touches_wherever_it_is(tmp_path: Path, name: str) -> None:
    records = await written(tmp_path / "spool", 3)
    whole = segment(tmp_path / "spool").read_bytes()
    path = tmp_path / (segment(tmp_path / "spool").name if name == "as it was written" else name)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert list(Segment(path).read()) == untouched(records, at, at + 1), at
        assert len(list((tmp_path / "damaged").iterdir())) == 1, at
        shutil.rmtree(tmp_path / "damaged")
        path.unlink()


async def test_bytes_that_a_file_lost_cost_the_records_that_they_were_of(tmp_path: Path) -> None:
    records = await written(tmp_path / "spool", 3)
    whole = segment(tmp_path / "spool").read_bytes()
    path = tmp_path / segment(tmp_path / "spool").name
    for at in range(0, len(whole), 3):
        for size in (1, 5):
            path.write_bytes(whole[:at] + whole[at + size :])
            assert list(Segment(path).read()) == untouched(records, at, at + size), (at, size)


@given(data=st.data(), size=st.integers(1, 700))
async def test_a_damage_costs_only_the_records_that_it_touches(data: st.DataObject, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = await written(Path(folder), 4)
        path = segment(Path(folder))
        whole = path.read_bytes()
        start = data.draw(st.integers(0, len(whole) - 1))
        end = min(start + size, len(whole))
        damage = data.draw(st.sampled_from([bytes(end - start), b"\xff" * (end - start), os.urandom(end - start)]))
        path.write_bytes(whole[:start] + damage + whole[end:])
        left = list(Segment(path).read())
        assert [one for one in untouched(records, start, end) if one not in left] == []


async def test_every_damaged_file_is_told_and_kept(tmp_path: Path) -> None:
    """Numbers start again when a process starts with an empty folder."""
    for count in (1, 2):
        await written(tmp_path, 2)
        path = segment(tmp_path)
        path.write_bytes(path.read_bytes()[:-7])
        before = metrics.SPOOL_DAMAGED._value.get()
        spool, _ = opened(tmp_path)
        for each in await spool.sealed():
            spool.drop(each)
        await spool.stop()
        assert metrics.SPOOL_DAMAGED._value.get() > before
        assert len(list((tmp_path / "damaged").iterdir())) == count


async def test_restarts_keep_a_damaged_file_once(tmp_path: Path) -> None:
    records = await written(tmp_path, 2)
    garble(segment(tmp_path), FILE_HEAD_BYTES + 30)
    for _ in range(3):
        assert await reopened(tmp_path) == records[1:]
        assert len(list((tmp_path / "damaged").iterdir())) == 1


@pytest.mark.parametrize("size", [0, 7, FILE_HEAD_BYTES, FILE_HEAD_BYTES + 50])
async def test_a_file_of_which_nothing_is_left_takes_no_room(tmp_path: Path, size: int) -> None:
    await written(tmp_path, 1)
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    for _ in range(2):
        spool, records = opened(tmp_path)
        assert (records, spool.size, list(tmp_path.glob("segment-*.spool"))) == ([], 0, [])
        assert len(list(tmp_path.glob("damaged/*"))) == (size not in (0, FILE_HEAD_BYTES))
        await spool.stop()


async def test_no_body_can_hold_a_record_of_its_own(tmp_path: Path) -> None:
    """Invariant 3: a sender chooses its body, and the search behind a damaged record goes through it."""
    forged, _ = opened(tmp_path / "forgery")
    assert await kept(forged, spooled(66)) == [True]
    await forged.stop()
    whole = segment(tmp_path / "forgery").read_bytes()
    spool, _ = opened(tmp_path / "spool")
    carrier = spooled(1)
    record = carrier.record._replace(value=whole + whole[FILE_HEAD_BYTES:])
    assert await kept(spool, carrier._replace(record=VerifiedRecord(record)), spooled(2)) == [True, True]
    await spool.stop()
    garble(segment(tmp_path / "spool"), FILE_HEAD_BYTES + 30)
    assert [one.record.key for one in await reopened(tmp_path / "spool")] == [b"evt_2"]


async def test_contents_that_are_set_aside_are_files_of_their_own(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)
    one = spooled(1)
    other = one._replace(record=VerifiedRecord(one.record._replace(topic="webhooks.other")))
    for each in (one, other, one._replace(fingerprint=b"x" * 32), one):
        spool.set_aside(each, "too large")
    await spool.stop()
    assert len(list((tmp_path / "set-aside").iterdir())) == 3


async def test_who_fails_to_hear_keeps_the_news_from_nobody(tmp_path: Path) -> None:
    spool, _ = opened(tmp_path)

    def fail(_: bool) -> None:
        raise RuntimeError("the connection is gone")

    spool.put(spooled(1), fail)
    assert await kept(spool, spooled(2)) == [True]
    assert await kept(spool, spooled(3)) == [True]
    await spool.stop()
