"""Disks that fill up, for real: a small tmpfs where mounting is permitted, else the kernel's limit on a file's size."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

MEBIBYTE = 2**20


class Disk:
    """What lies under a folder. `users` are the processes that write there."""

    def __init__(self, folder: Path, is_mounted: bool, users: Callable[[], Iterable[psutil.Process]]) -> None:
        self._ballast = folder / "ballast"
        self._is_mounted = is_mounted
        self._users = users

    def fill(self) -> None:
        """From now on there is no room for another byte."""
        if not self._is_mounted:
            self._limit(1)
            return
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (MEBIBYTE, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def free(self) -> None:
        if self._is_mounted:
            self._ballast.unlink()
        else:
            self._limit("unlimited")

    def _limit(self, size: int | str) -> None:
        """Programs get EFBIG where a disk says ENOSPC; neither keeps what they wrote."""
        for process in self._users():
            with contextlib.suppress(psutil.Error):
                argv = ["prlimit", "--pid", str(process.pid), f"--fsize={size}:unlimited"]
                # As whom it runs: root may lack the right to limit others.
                subprocess.run(argv, check=False, capture_output=True, user=process.uids().real)


@contextmanager
def small_disk(folder: Path, mebibytes: int, users: Callable[[], Iterable[psutil.Process]]) -> Iterator[Disk]:
    """A disk of that size under the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={mebibytes}m,mode=0711"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "redrive-test", str(folder)], capture_output=True)
    try:
        yield Disk(folder, mounted.returncode == 0, users)
    finally:
        if mounted.returncode == 0:
            os.sync()
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
