"""The disk, and what else a process asks of its system: real files, of which a power cut takes what was not fsynced."""

import errno
import os
import random
from pathlib import Path
from typing import Any

from tests.simulation.scheduler import Scheduler


class System:
    """Stands for the module `os` in what is simulated."""

    def __init__(self, scheduler: Scheduler, alive: set[int]) -> None:
        self._scheduler = scheduler
        self._alive = alive
        self.fault_share = 0.0
        self.synced: dict[str, int] = {}
        """File -> its bytes that a power cut leaves."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getpid(self) -> int:
        node = self._scheduler.current
        return node.pid if node is not None else 0

    def kill(self, pid: int, _: int) -> None:
        if pid not in self._alive:
            raise ProcessLookupError

    def fsync(self, descriptor: int) -> None:
        if self._scheduler.random.random() < self.fault_share:
            raise OSError(errno.EIO, "Input/output error")
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isfile(path):
            self.synced[path] = os.path.getsize(path)

    def write_all(self, file: Any, data: bytes) -> None:
        """`spool.write_all`, on a disk that is full now and then."""
        random = self._scheduler.random
        if random.random() < self.fault_share:
            file.write(data[: random.randrange(len(data))])
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(data)

    def cut_power(self, folder: Path) -> None:
        """Of every file a part of what was not fsynced is gone, or is not what was written."""
        names: dict[int, list[Path]] = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            names.setdefault(path.stat().st_ino, []).append(path)
        for paths in names.values():
            # A file that is kept for its damage has two names.
            size, synced = paths[0].stat().st_size, max(self.synced.get(str(path), 0) for path in paths)
            if size > synced:
                _tear(paths[0], synced, size, self._scheduler.random)


def _tear(path: Path, synced: int, size: int, order: random.Random) -> None:
    data = bytearray(path.read_bytes()[: order.randint(synced, size)])
    if len(data) > synced and order.random() < 0.3:
        data[order.randrange(synced, len(data))] ^= 0xFF
    path.write_bytes(bytes(data))
