"""Turns among the processes of one user on this machine, for what must be done by one at a time."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Waits, in this thread, for whoever is at it. A process that dies gives up its turn."""
    with Path(tempfile.gettempdir(), f"redrive-{what}-{os.getuid()}.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
