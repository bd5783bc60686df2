"""Files of the spool that somebody else left, and those that can't be read: these are moved out of the way.

They hold up nothing there, and the next start of the ingress tries them again. A person corrects the cause before it.
"""

import errno
import time
from pathlib import Path
from typing import Final

from ingest import metrics
from ingest.spool.segment import mark_of, segment_name, segments_in, sync_folder

_FOLDER: Final = "unreadable"
PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
"""Errors of a machine that lacks something for a moment: they prove nothing about the file."""


def adopt(folder: Path, into: Path) -> None:
    """Make the segments of a folder the last ones of another, as far as they can be read."""
    number = max([number for number, _ in segments_in(into)], default=0)
    for _, path in segments_in(folder):
        try:
            path.rename(into / segment_name(number + 1, mark_of(path, path.read_bytes())))
        except OSError as error:
            move_away(path, error)
        else:
            number += 1
    sync_folder(into)


def adopt_unreadable(folder: Path, into: Path) -> None:
    """The same for what was moved away from there before."""
    adopt(folder / _FOLDER, into)


def move_away(path: Path, error: OSError) -> None:
    """Out of the way, and reported. A file that can't be moved stays, and is reported all the same."""
    try:
        if path.parent.name != _FOLDER:
            path = _moved(path)
    except OSError:
        # It is gone, or its folder is not ours.
        pass
    metrics.spool_unreadable(str(path), error)


def _moved(path: Path) -> Path:
    folder = path.parent / _FOLDER
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    if target.exists():
        # Names without a mark may come again. A number that is free is as good: the mark is in the file.
        target = folder / f"segment-{time.time_ns()}.spool"
    path.rename(target)
    sync_folder(folder)
    return target
