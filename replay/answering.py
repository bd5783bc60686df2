"""Work that lasts for as long as a server answers: it may take long, and yet nobody waits for a server that is silent.

The server is asked beside the work, on a connection of its own. Must not know what the work is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from schemas.errors import Unavailable

ANSWER_SECONDS: Final = 3.5
"""A server that has not answered for so long is taken to be silent. With the question before it, and the start of a
command, that is five."""

TRY_SECONDS: Final = 10.0
"""A question without an answer for this long is asked again, over another connection."""

ASK_SECONDS: Final = 0.5
"""Before the first question, and between two: short work asks none."""

WORK_SECONDS: Final = 15.0
"""The same for work that has taken long already, and would have to begin again."""

_STEPS: Final = 8


class Server(Protocol):
    """A server that work waits for."""

    async def ask(self) -> None:
        """Returns once it has answered, and asks again until it does."""
        ...

    def silence(self, seconds: float) -> Unavailable:
        """The error for a server that has been silent for so long."""
        ...


def _nothing() -> None:
    return None


@asynccontextmanager
async def while_answering(
    server: Server, abandon: Callable[[], None] = _nothing, patience: float | None = None
) -> AsyncIterator[None]:
    """Cancel the block once the server is silent, by default for `ANSWER_SECONDS`, and raise its `silence`.

    `abandon` is called first, and drops the connections on which the block waits: what is cancelled on a connection
    whose server is silent waits for that server once more.
    """
    seconds = ANSWER_SECONDS if patience is None else patience
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task whose work could be cancelled")
    cancelling, is_silent = task.cancelling(), False

    async def watch() -> None:
        nonlocal is_silent
        await _until_silent(server, seconds)
        is_silent = True
        abandon()
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except BaseException as error:
        if not is_silent:
            raise
        if task.uncancel() > cancelling and isinstance(error, asyncio.CancelledError):
            # Somebody else cancels it as well.
            raise
        raise server.silence(seconds) from error
    else:
        if is_silent:
            # It was done all the same, whatever it made of its cancellation.
            task.uncancel()
    finally:
        watching.cancel()


async def _until_silent(server: Server, seconds: float) -> None:
    while True:
        await asyncio.sleep(ASK_SECONDS)
        question = asyncio.ensure_future(server.ask())
        try:
            if not await is_answered(question, seconds):
                return
        finally:
            question.cancel()


async def is_answered(question: "asyncio.Future[Any]", seconds: float) -> bool:
    """True if it is done within so many seconds in which this process listened: an answer must not look late because
    the process was busy with itself, or was stopped.
    """
    clock, step = asyncio.get_running_loop().time, seconds / _STEPS
    listened = 0
    while listened < _STEPS:
        began = clock()
        await asyncio.wait({question}, timeout=step)
        if question.done():
            return True
        if clock() - began < 2 * step:
            listened += 1
    return False
