"""Checks before `redrive up` starts anything, so that nothing is half-started."""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from schemas.errors import Misconfigured, Unavailable
from schemas.settings import Settings


class DataFolderLock:
    """One `redrive up` per data folder. The kernel drops the lock with its process, so it can't go stale."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip()
            raise Unavailable(f"another `redrive up` (pid {holder}) runs on {self._path.parent}") from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def require_ports(settings: Settings) -> None:
    """Before anything starts, so that nothing is half-started."""
    wanted_ports = (
        (settings.ingest_host, settings.ingest_port, "INGEST_PORT"),
        (settings.console_host, settings.console_port, "CONSOLE_PORT"),
        (settings.processors_host, settings.processors_port, "PROCESSORS_PORT"),
    )
    for host, port, variable in wanted_ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise Misconfigured(
                    f"{host}:{port} can't be bound ({error.strerror}); set {variable} in .env, where commands in other"
                    " terminals find it too"
                ) from error
