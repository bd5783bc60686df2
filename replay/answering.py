"""Work that lasts for as long as a server answers: it may take long, and yet nobody waits for a server that is silent.

The server is asked beside the work, on a connection of its own. Must not know what the work is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from schemas.errors import Unavailable

ANSWER_SECONDS: Final = 4.0
"""A server that has not answered for so long is taken to be silent."""

ASK_SECONDS: Final = 0.5
"""Before the first question, and between two: short work asks none."""

_STEPS: Final = 8


class Server(Protocol):
    """What work waits for."""

    async def ask(self) -> None:
        """Returns once it has answered, and asks again until it does."""
        ...

    def silence(self) -> Unavailable:
        """What to raise where it does not."""
        ...


def _nothing() -> None:
    return None


@asynccontextmanager
async def while_answering(server: Server, abandon: Callable[[], None] = _nothing) -> AsyncIterator[None]:
    """Cancel the block once the server is silent, and raise its `silence`.

    `abandon` is called first, and drops the connections on which the block waits: what is cancelled on a connection
    whose server is silent waits for that server once more.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task whose work could be cancelled")
    cancelling, is_silent = task.cancelling(), False

    async def watch() -> None:
        nonlocal is_silent
        await _until_silent(server)
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
        raise server.silence() from error
    finally:
        watching.cancel()


async def _until_silent(server: Server) -> None:
    while True:
        await asyncio.sleep(ASK_SECONDS)
        question = asyncio.ensure_future(server.ask())
        try:
            # In steps: an answer that is there must not look late because this process was busy with itself.
            for _ in range(_STEPS):
                await asyncio.wait({question}, timeout=ANSWER_SECONDS / _STEPS)
                if question.done():
                    break
            else:
                return
        finally:
            question.cancel()
