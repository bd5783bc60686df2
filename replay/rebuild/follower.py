"""Keeps every generation that is not live caught up, so that a flip to it, or back, is one step and misses nothing.

Also finishes the work after an interrupted flip. Must not make generations, nor flip. Several processes may run it; one
at a time folds a generation.
"""

import asyncio
import contextlib
from typing import Final

from replay import metrics
from replay.locks import Lock, advisory_lock
from replay.log.reader import LogReader
from replay.ports import Connection
from replay.rebuild.after_flip import pending, try_to_settle
from replay.rebuild.fold import GenerationFold, NotFollowed, catch_up
from replay.tables.generations import Generation, RebuildPorts, is_beyond, kept, note_ready

LOOK_SECONDS: Final = 1.0
FAILURE_SECONDS: Final = 5.0


class Follower:
    """Cancel `run` to stop it: committed work stays."""

    def __init__(self, ports: RebuildPorts) -> None:
        self._ports = ports

    async def run(self) -> None:
        while True:
            try:
                await self.follow()
                metrics.followed()
                await asyncio.sleep(LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001 - the outermost loop: whatever it is, it is tried again
                metrics.follow_failed(error)
                await asyncio.sleep(FAILURE_SECONDS)

    async def follow(self) -> None:
        """Every kept generation, once, up to where the live positions are now; and the end of a flip cut short."""
        async with self._ports.pool.acquire() as connection:
            generations = await kept(connection)
            others = [one for one in generations if not one.is_live]
            metrics.generations_kept([one.number for one in others])
            # Our code would spoil rows that newer code folded.
            ours = [one for one in generations if not await is_beyond(connection, one.number, self._ports.code)]
            left = await pending(connection) if any(one.is_live for one in ours) else None
            waiting = [one for one in ours if not one.is_live and await self._is_waiting(connection, one)]
        if not waiting and left is None:
            return
        async with self._ports.open_log() as reader:
            if left is not None:
                async with self._ports.pool.acquire() as holder:
                    await try_to_settle(self._ports, reader, holder, left)
            for one in waiting:
                await self._follow(one, reader)

    async def _is_waiting(self, connection: Connection, one: Generation) -> bool:
        fold = GenerationFold(self._ports, one)
        done, of = await fold.way(connection)
        metrics.generation_followed(one.number, of - done)
        return one.state == "building" or await fold.is_behind(connection)

    async def _follow(self, one: Generation, reader: LogReader) -> None:
        async with (
            self._ports.pool.acquire() as holder,
            advisory_lock(holder, Lock.FOLD, "try", one.number) as is_ours,
        ):
            if not is_ours:
                return
            # It may go live, or be dropped: the next look says so.
            with contextlib.suppress(NotFollowed):
                fold = GenerationFold(self._ports, one)
                await catch_up(
                    self._ports, fold, reader, lambda done, of: metrics.generation_followed(one.number, of - done)
                )
                await note_ready(holder, one.number)
