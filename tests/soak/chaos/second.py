"""A second installation on the same Kafka: a folder and a database of its own, started and ended by `redrive up`."""

import asyncio
import contextlib
import signal

import asyncpg

from tests.soak.chaos import aside
from tests.soak.tale import Tale
from tests.soak.verdict import SHOWN, is_folded
from tests.support import forks
from tests.support.processes import Installation
from tests.support.signing import SECRETS
from tests.support.tables import story_differences

NAME = "second"
READY = "redrive is up"
STOP_SECONDS = 180.0
FOLD_SECONDS = 1800.0


class Second:
    """It may fail to come up while Kafka or Postgres is away; once it is up, it ends when it is told to."""

    def __init__(self, first: Installation) -> None:
        self._first = first
        folder = first.folder / NAME
        folder.mkdir()
        aside.write(folder)
        self.url = first.address("DATABASE_URL").replace("@/redrive?", f"@/{NAME}?")
        servers = first.address("KAFKA_BOOTSTRAP_SERVERS")
        self.installation = Installation(
            folder, KAFKA_BOOTSTRAP_SERVERS=servers, DATABASE_URL=self.url, INGEST_WORKERS="1", **SECRETS
        )
        self._begun = 0

    @property
    def is_running(self) -> bool:
        process = self.installation.process
        return process is not None and process.returncode is None

    async def start(self) -> None:
        """Does not wait until it is ready."""
        connection = await asyncpg.connect(self._first.address("DATABASE_URL"), timeout=10)
        try:
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f"CREATE DATABASE {NAME}", timeout=60)
        finally:
            await connection.close()
        path = self.installation.folder / "up.log"
        self._begun = path.stat().st_size if path.exists() else 0
        with path.open("ab") as output:
            self.installation.process = await forks.redrive(
                "up",
                cwd=self.installation.folder,
                env=self.installation.environment,
                stdout=output,
                stderr=output,
            )

    def output(self) -> str:
        """Since the last start."""
        return (self.installation.folder / "up.log").read_bytes()[self._begun :].decode(errors="replace")

    async def end(self) -> str:
        """Returns how it ended. Raises `AssertionError` where it ended by itself after it was up."""
        process = self.installation.process
        assert process is not None
        if process.returncode is not None:
            last = " ".join(self.output().split())[-200:]
            assert READY not in self.output(), f"the second installation was up, and ended by itself: {last}"
            return f"it had not come up: exit {process.returncode}, {last}"
        was_up = READY in self.output()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            code = await process.wait()
        return f"ended, exit {code}{'' if was_up else ', before it was up'}"

    async def until_folded(self) -> None:
        """Up, and everything folded, after however many starts."""
        async with asyncio.timeout(FOLD_SECONDS):
            while True:
                if not self.is_running:
                    await self.start()
                with contextlib.suppress(OSError, asyncpg.PostgresError):
                    # Before it is up, it makes its views anew.
                    if READY in self.output() and await is_folded(self._first, self.url):
                        return
                await asyncio.sleep(1)

    async def differences(self, tale: Tale) -> list[str]:
        connection = await asyncpg.connect(self.url)
        try:
            return (await story_differences(connection, tale.world))[:SHOWN]
        finally:
            await connection.close()
