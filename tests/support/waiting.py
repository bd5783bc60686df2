"""Waiting for a condition, never for a time. One limit for every wait: a slow machine needs a number, and no edit."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

WAIT_SECONDS: Final = float(os.environ.get("TEST_WAIT_SECONDS", "180"))
"""No test waits as long unless it fails; the environment variable is for machines on which it might."""

T = TypeVar("T")


@asynccontextmanager
async def limit(what: str) -> AsyncIterator[None]:
    """Whatever is awaited inside; the failure says what that was."""
    try:
        async with asyncio.timeout(WAIT_SECONDS) as timeout:
            yield
    except TimeoutError as error:
        if timeout.expired():
            raise AssertionError(f"not within TEST_WAIT_SECONDS={WAIT_SECONDS:g}: {what}") from error
        raise


async def within(awaitable: Awaitable[T], what: str) -> T:
    """The same for one awaitable."""
    async with limit(what):
        return await awaitable


async def until(condition: Callable[[], Any], what: str) -> None:
    """Until `condition`, which may be a coroutine function, is true."""
    async with limit(what):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.05)
