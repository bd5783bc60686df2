"""Snapshots that the console creates for requests over HTTP, one at a time. `replay.rebuild.snapshot` does the work."""

import asyncio
from typing import Any

from replay import metrics
from replay.audit import Author
from replay.rebuild import snapshot
from replay.rebuild.snapshot import SnapshotOrder
from replay.tables.generations import RebuildPorts
from schemas.errors import InvalidTransition


class SnapshotJobs:
    """`ports` are used by nothing else while one is made."""

    def __init__(self, ports: RebuildPorts) -> None:
        self._ports = ports
        self._making: asyncio.Task[dict[str, Any]] | None = None

    async def start(self, moment: SnapshotOrder, author: Author) -> None:
        """Returns once it is on record; it is folded meanwhile. Raises what `scratch.make` raises until then."""
        if self._making is not None and not self._making.done():
            raise InvalidTransition("a snapshot is being created: one at a time")
        begun = asyncio.Event()
        self._making = asyncio.create_task(snapshot.make(self._ports, moment, author, lambda *_: None, begun.set))
        on_record = asyncio.create_task(begun.wait())
        await asyncio.wait({self._making, on_record}, return_when=asyncio.FIRST_COMPLETED)
        if not begun.is_set():
            on_record.cancel()
            await self._making
        self._making.add_done_callback(_ended)

    async def stop(self) -> None:
        """With the service: nothing is left of what has not ended."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])


def _ended(made: "asyncio.Task[dict[str, Any]]") -> None:
    """The outermost of the task: nobody waits for it."""
    error = None if made.cancelled() else made.exception()
    if error is not None:
        metrics.scratch_failed(error)
