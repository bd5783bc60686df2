"""Batches to the fold: those of a partition in order, partitions side by side. Must not know what folding is."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from faust.types import TP

from processors.partition_state import Batch


class Lanes:
    """One task per partition that has something to fold, in `group`: what holds up a partition holds up no other.

    How much waits here is bounded where it is fetched.
    """

    def __init__(self, fold: Callable[[Batch], Awaitable[None]], group: asyncio.TaskGroup) -> None:
        self._fold = fold
        self._group = group
        self._waiting: dict[TP, deque[Any]] = {}

    def put(self, event: Any) -> None:
        """A Faust event whose value is a batch; acknowledged once that is folded, or is to be read again."""
        tp = event.value.tp
        waiting = self._waiting.get(tp)
        if waiting is None:
            self._waiting[tp] = deque([event])
            self._group.create_task(self._run(tp))
        else:
            waiting.append(event)

    async def _run(self, tp: TP) -> None:
        waiting = self._waiting[tp]
        while waiting:
            event = waiting.popleft()
            await self._fold(event.value)
            event.ack()
        del self._waiting[tp]
