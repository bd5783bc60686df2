"""Outcomes that the dedupe window could not take because another process held it. Must not decide any."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from schemas.errors import Unavailable

RETRY_SECONDS: Final = 0.01
MAX_NOTES: Final = 50_000
"""The oldest give way: a claim ends by itself, and the keeper reads from the log what the window does not know."""

_TICK_NOTES: Final = 500


class LateNotes:
    """The notes of one process; the window takes them in their order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque(maxlen=MAX_NOTES)

    def note(self, say: Callable[..., None], *arguments: object) -> None:
        """Call it now, or else once the window is free: `say` raises `Unavailable` while it is held."""
        if not self._waiting:
            try:
                say(*arguments)
            except Unavailable:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._again)
            else:
                return
        self._waiting.append((say, arguments))

    def _again(self) -> None:
        try:
            # A few at a time: live deliveries go first.
            for _ in range(min(_TICK_NOTES, len(self._waiting))):
                say, arguments = self._waiting[0]
                say(*arguments)
                self._waiting.popleft()
        except Unavailable:
            pass
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._again)
