"""The ingress' spool on this machine, seen from outside. Must not change it, or ask the ingress."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize

from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The spools of all processes of this host: bytes, and files that wait for a person."""

    folder: Path
    max_bytes: int
    held_bytes: int
    free_bytes: int
    set_aside: int
    damaged: int
    unreadable: int

    @property
    def warnings(self) -> list[str]:
        """Faults that would cost deliveries, or have."""
        found = []
        room = self.max_bytes - self.held_bytes
        if self.free_bytes < room:
            found.append(
                f"the spool may grow by {_size(room)}, but its disk has only {_size(self.free_bytes)} free:"
                " free some space, or lower SPOOL_MAX_BYTES"
            )
        if self.set_aside:
            found.append(f"{self.set_aside} spooled deliveries are set aside: see docs/runbooks/spool-damaged.md")
        if self.damaged:
            found.append(f"{self.damaged} files of the spool are damaged: see docs/runbooks/spool-damaged.md")
        if self.unreadable:
            found.append(f"{self.unreadable} files of the spool can't be read: see docs/runbooks/spool-damaged.md")
        return found

    def __str__(self) -> str:
        limit = f"{_size(self.held_bytes)} of {_size(self.max_bytes)}" if self.max_bytes else "off"
        return f"{self.folder}: {limit}, {_size(self.free_bytes)} free on its disk"


def spool_state(settings: Settings) -> SpoolState:
    """As the files are now; a folder that is not there yet holds nothing."""
    folder = (settings.data / "spool").absolute()
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    return SpoolState(
        folder=folder,
        max_bytes=settings.spool_max_bytes,
        held_bytes=sum(map(_bytes_of, folder.glob("*/segment-*.spool"))),
        free_bytes=shutil.disk_usage(disk).free,
        set_aside=len(list(folder.glob("*/set-aside/*.spool"))),
        damaged=len(list(folder.glob("*/damaged/*.spool"))),
        unreadable=len(list(folder.glob("*/unreadable/*.spool"))),
    )


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # Drained meanwhile.
        return 0


def _size(size: int) -> str:
    return ByteSize(size).human_readable()
