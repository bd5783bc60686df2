"""The wall clock of a Python process that stands off by what a file says: Python runs this at its start, where the
folder is on its path. Must not touch the monotonic clock, which no administrator sets either.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_FILE = os.environ.get("TEST_CLOCK_OFFSET")

if _FILE:
    with Path(_FILE).open("rb") as _file:
        _OFFSET = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
    _true_ns = time.time_ns

    def _jumping_ns() -> int:
        """Nanoseconds since the epoch, by this clock."""
        return _true_ns() + int(struct.unpack_from("<d", _OFFSET)[0] * 1e9)

    time.time_ns = _jumping_ns
    time.time = lambda: _jumping_ns() / 1e9
