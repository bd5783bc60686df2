"""Turns among the processes of one user on this machine, for what must be done by one at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Waits, in this thread, for whoever is at it. A process that dies gives up its turn."""
    # Not in the temporary folder: processes of one user may each have another.
    folder = Path.home() / ".cache" / "redrive"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{what}.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
