"""What `redrive check` says of the spool before it is needed, and of what waits in it for a person."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from deploy.spool_folder import spool_state
from schemas.settings import Settings

MEBIBYTE = 1024 * 1024


def settings(folder: Path, max_bytes: int = MEBIBYTE) -> Settings:
    return Settings.model_validate({"data": folder, "spool_max_bytes": max_bytes})


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * MEBIBYTE, 0, free))


def test_a_folder_that_is_not_there_yet_holds_nothing_and_its_disk_is_known(tmp_path: Path) -> None:
    found = spool_state(settings(tmp_path / "not" / "yet"))
    assert (found.held_bytes, found.set_aside, found.damaged) == (0, 0, 0)
    assert found.free_bytes > 0
    assert found.warnings == []


def test_what_every_process_of_the_host_holds_counts(tmp_path: Path) -> None:
    write(tmp_path / "spool" / "0" / "segment-00000001.spool", 100)
    write(tmp_path / "spool" / "0" / "segment-00000002.spool", 20)
    write(tmp_path / "spool" / "3" / "segment-00000001.spool", 3)
    write(tmp_path / "spool" / "3" / "lock", 1000)
    assert spool_state(settings(tmp_path)).held_bytes == 123


def test_a_disk_with_less_room_than_the_spool_may_take_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "spool" / "0" / "segment-00000001.spool", MEBIBYTE // 2)
    leave_free(monkeypatch, MEBIBYTE // 2)
    assert spool_state(settings(tmp_path)).warnings == []
    leave_free(monkeypatch, MEBIBYTE // 2 - 1)
    (warning,) = spool_state(settings(tmp_path)).warnings
    assert "SPOOL_MAX_BYTES" in warning


def test_a_spool_that_is_off_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_free(monkeypatch, 0)
    found = spool_state(settings(tmp_path, max_bytes=0))
    assert found.warnings == []
    assert ": off," in str(found)


def test_what_waits_for_a_person_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "spool" / "0" / "set-aside" / "1700000000000-0a1b2c3d.spool", 1)
    write(tmp_path / "spool" / "1" / "damaged" / "segment-00000001.spool", 1)
    aside, damaged = spool_state(settings(tmp_path)).warnings
    assert "set aside" in aside
    assert "damaged" in damaged
