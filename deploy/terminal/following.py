"""Waits for a replay's end at a terminal, and runs it where nobody else does. Must not print."""

import asyncio
import contextlib
import uuid
from typing import Any, Final

import asyncpg
from rich.progress import Progress

from replay.audit import Author
from replay.jobs import lease, ledger
from replay.jobs.jobs import PASSING, Jobs
from schemas.errors import InvalidTransition

LOOK_SECONDS: Final = 0.3
GRACE_SECONDS: Final = 4.0
"""For the console service to take it: it looks once a second, and at none that was made less than two seconds ago."""


class Follow:
    """`is_here`: run it in this process at once."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", jobs: Jobs, author: Author, is_here: bool) -> None:
        self._pool = pool
        self._jobs = jobs
        self._author = author
        self._grace_seconds = 0.0 if is_here else GRACE_SECONDS
        self._running: asyncio.Task[None] | None = None
        self._free_since: float | None = None
        self.has_paused = False
        """True if an interrupt left the replay paused; otherwise another process runs it on."""

    async def to_the_end(self, replay: uuid.UUID, bar: Progress) -> dict[str, Any]:
        """The entry at its end. Outages are waited for; who is interrupted while it runs here leaves it paused."""
        task = bar.add_task("re-driving", total=1.0)
        try:
            while True:
                with contextlib.suppress(*PASSING):
                    entry = await self._look(replay)
                    bar.update(task, completed=entry["progress"], description=_described(entry))
                    if entry["state"] not in ledger.OPEN:
                        async with self._pool.acquire() as connection:
                            return await ledger.show_replay(connection, replay)
                await asyncio.sleep(LOOK_SECONDS)
        except asyncio.CancelledError:
            await self._leave(replay)
            raise
        finally:
            await self._stop()

    async def _look(self, replay: uuid.UUID) -> dict[str, Any]:
        if self._running is not None and self._running.done():
            ended, self._running = self._running, None
            ended.result()
        if self._running is None and await lease.free(self._pool, replay):
            now = asyncio.get_running_loop().time()
            self._free_since = self._free_since if self._free_since is not None else now
            if now - self._free_since >= self._grace_seconds:
                self._running = asyncio.create_task(self._jobs.take(replay))
        else:
            self._free_since = None
        async with self._pool.acquire() as connection:
            return await ledger.brief(connection, replay)

    async def _leave(self, replay: uuid.UUID) -> None:
        """An interrupt of the process that runs the replay is meant for the replay, which others would run on."""
        if self._running is None:
            return
        with contextlib.suppress(InvalidTransition, *PASSING):
            async with self._pool.acquire() as connection:
                why = Author(self._author.operator, "interrupted at the terminal")
                await ledger.change(connection, replay, "pause", why)
            self.has_paused = True

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def _described(entry: dict[str, Any]) -> str:
    return entry["slowed_by"] or {"planned": "waiting for its turn", "paused": "paused"}.get(
        entry["state"], "re-driving"
    )
