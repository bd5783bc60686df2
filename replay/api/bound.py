"""Limits of a request's wait: it ends once a server that it depends on is silent. Must not know what a request does."""

from contextlib import AsyncExitStack
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from replay.answering import ANSWER_SECONDS, Server, while_answering
from replay.api.authentication import Handler

_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Pages with a bound of their own."""

_READING: Final = frozenset({"GET", "HEAD"})


class RequestConnections(Protocol):
    """Those to the database on which requests wait."""

    drops: int
    """How many times they were dropped."""

    def drop(self) -> None: ...


def bounded(database: Server, connections: RequestConnections, log: Server) -> Middleware:
    """Raises `Unavailable`, which names the silent server.

    The reader bounds every read of the log. A request that changes something needs the log as well, and may wait for
    its turn behind others that wait for the log.
    """

    @web.middleware
    async def bound(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        drops = connections.drops
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(while_answering(database, connections.drop))
            if request.method not in _READING:
                await stack.enter_async_context(while_answering(log))
            try:
                return await handler(request)
            except Exception as error:
                if connections.drops != drops:
                    # Another request heard of it a moment earlier, and dropped the connection of this one.
                    raise database.silence(ANSWER_SECONDS) from error
                raise

    return bound
