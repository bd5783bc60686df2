"""Postgres, asked whether it answers; and the connections of a pool, to be dropped while it does not."""

import asyncio
from typing import Any
from weakref import WeakSet

import asyncpg

from replay.answering import ASK_SECONDS, TRY_SECONDS
from schemas.errors import DatabaseUnavailable


class Postgres:
    """A `Server`, asked on a connection of its own, which is opened when it is first needed.

    However many wait, one question is under way. `shown` is the URL without its password.
    """

    def __init__(self, url: str, shown: str) -> None:
        self._url = url
        self._shown = shown
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._question: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._until_it_answers())
        await asyncio.shield(self._question)

    async def _until_it_answers(self) -> None:
        while True:
            try:
                if self._connection is None:
                    self._connection = await asyncpg.connect(self._url, timeout=TRY_SECONDS)
                await self._connection.execute("SELECT 1", timeout=TRY_SECONDS)
                return
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, TimeoutError):
                self._drop()
            except asyncpg.PostgresError:
                # A refusal is an answer.
                return
            await asyncio.sleep(ASK_SECONDS)

    def silence(self, seconds: float) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"Postgres does not answer at {self._shown}: it has been silent for {seconds:g} s")

    def close(self) -> None:
        if self._question is not None:
            self._question.cancel()
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class PoolConnections:
    """Those of one pool or several."""

    def __init__(self) -> None:
        self._open: WeakSet[Any] = WeakSet()
        self.drops = 0

    async def add(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """The pool calls it with every connection that it opens."""
        self._open.add(connection)

    def drop(self) -> None:
        """Without a word to the server. The tasks that wait on a connection get its error; the pool opens others."""
        self.drops += 1
        for connection in list(self._open):
            connection.terminate()
