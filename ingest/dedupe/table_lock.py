"""The lock of the table that the processes of a host share. Must not read or write the table.

The kernel frees it when its holder dies. Nobody takes it from a holder that is stopped: whatever that process still
writes when it continues would overwrite what others have written since.
"""

import fcntl
import os
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ingest import metrics
from schemas.errors import Unavailable

LOCK_SECONDS: Final = 0.1
"""Its holder works for microseconds; one that was stopped in the middle must not stop all others."""

_FLOCK: Final = struct.Struct("hhqqi4x")
"""The kernel's `struct flock`: type, whence, start, length, pid."""

_WANTED: Final = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)


class WindowHeld(Unavailable):
    """Another process holds the dedupe window, and does not continue."""

    code = "window_held"


class TableLock:
    """The lock on `descriptor`, as one process takes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Without a frame of Python: it is called twice for each delivery.
        self.give_back: Callable[[], None] = partial(fcntl.lockf, descriptor, fcntl.LOCK_UN, 1)
        self._stuck = 0
        """Process that held the lock for too long, when this process last tried; 0 if there was none."""
        self._stuck_since = 0.0
        # A process that was killed may have left a 1 in the file of its number.
        metrics.WINDOW_HELD.set(0)

    def take(self) -> None:
        """For as long as a few look-ups take. Waits `LOCK_SECONDS` once for a holder that is stuck, and then no more.
        Raises `WindowHeld`.
        """
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError:
            self._wait()
        if self._stuck:
            metrics.window_free(time.monotonic() - self._stuck_since)
            self._stuck = 0

    def _wait(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            holder = self._holder()
            is_overdue = time.monotonic() > deadline
            if is_overdue and holder and holder != self._stuck:
                self._stuck_since = self._stuck_since if self._stuck else deadline - LOCK_SECONDS
                self._stuck = holder
                metrics.window_held(holder)
            if is_overdue or (holder and holder == self._stuck):
                raise WindowHeld(f"process {holder} holds the dedupe window")
            os.sched_yield()
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except OSError:
                continue
            return

    def _holder(self) -> int:
        """Pid of the process that holds the lock; 0 while it is free."""
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, _WANTED))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
