"""A connection of the ingress: aiohttp's, with a short road for deliveries that arrive whole.

aiohttp answers a request in a task of its own, behind a request object and a response writer; for a delivery of 1 KB
that is most of the work. Here deliveries that come whole, one after the other (`whole_request`), go straight to the
ingress, and their answers straight to the transport. With the first other thing (a slow body, another path, HTTP/1.0, a
pipeline) the connection takes aiohttp's road for good. The names with an underscore are aiohttp's: the version is
pinned, and `tests/contract` holds both roads to the same answers.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from ingest import metrics
from ingest.http import responses
from ingest.http.limits import Limits
from ingest.http.responses import HttpAnswer
from ingest.http.whole_request import read_whole

Reply = Callable[[HttpAnswer], None]
Receive = Callable[[str, str, Mapping[str, str], bytes, str, Reply], None]
"""(method, target, headers, body, remote address, reply): see `ingest.handler.Ingress.receive`."""


MAX_HELD_BYTES: Final = 64 * 1024
"""The limit of requests that arrive before the last one was answered."""


class HttpConnection(RequestHandler):
    """One client. A request is processed only when the one before it has been answered."""

    __slots__ = (
        "_head_deadline",
        "_held",
        "_is_answering",
        "_is_counted",
        "_is_plain",
        "_limits",
        "_receive",
        "_remote",
    )

    def __init__(self, receive: Receive, limits: Limits, manager: Any, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._receive = receive
        self._limits = limits
        self._is_answering = False
        self._is_counted = False
        self._is_plain = True
        """True if all requests were whole deliveries, so that aiohttp's parser has seen nothing."""
        self._held = b""
        self._head_deadline: asyncio.TimerHandle | None = None
        self._remote = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if isinstance(peer, (list, tuple)) else str(peer or "")
        self._is_counted = self._limits.connect(self._remote)
        if self._is_counted:
            # A silent or slow client holds a connection.
            self._expect_head()
        else:
            self._hang_up("overloaded", "limit")

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._is_counted:
            self._is_counted = False
            self._limits.disconnect(self._remote)
        self._head_is_here()
        super().connection_lost(exc)

    def _hang_up(self, rejection: str, reason: str) -> None:
        metrics.connection_refused(reason)
        if self.transport is not None:
            self.transport.write(responses.problem(rejection).encoded(int(time.time())))
            self.transport.close()

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            seconds = self._limits.config.header_seconds
            self._head_deadline = self._loop.call_later(seconds, self._hang_up, "request_timeout", "slow")

    def _head_is_here(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def data_received(self, data: bytes) -> None:
        if self._is_answering:
            self._hold(data)
            return
        if self._is_plain and not (self._paused or self._close or self._force_close):
            config = self._limits.config
            whole = read_whole(data, config.headers, config.header_bytes)
            if whole is not None:
                if self._head_deadline is not None:
                    self._head_is_here()
                self._is_answering = self._request_in_progress = True
                target, headers, body = whole
                self._receive("POST", target, headers, body, self._remote, self._reply)
                return
        # From here on only aiohttp knows where a request ends, so it reads the rest of the connection.
        self._is_plain = False
        super().data_received(data)
        if self._messages:
            self._head_is_here()
        elif self._waiter is not None and not self._waiter.done():
            # Its task waits for a request, and this was a part of a head.
            self._expect_head()

    def _hold(self, data: bytes) -> None:
        """Its turn comes with the answer to the request before."""
        self._held += data
        if len(self._held) > MAX_HELD_BYTES and self.transport is not None:
            self.transport.pause_reading()

    def _reply(self, answer: HttpAnswer) -> None:
        self._is_answering = self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            # A shutdown waits for this answer.
            self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        self.transport.write(answer.encoded(int(time.time())))
        self._keep_alive_until()
        if self._held:
            held, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(held)

    def _keep_alive_until(self) -> None:
        """As aiohttp does after an answer of its own."""
        self._keepalive = True
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None and not self._force_close:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def _process_keepalive(self) -> None:
        if self._is_answering:
            # To aiohttp the connection is idle; it is the log that we wait for.
            self._keepalive_handle = None
            return
        super()._process_keepalive()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if "transfer-encoding" in request.headers:
            # aiohttp's parser gives the last trailer of a chunked body to the next request on the connection.
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP is a problem like every other, and no traceback is written about it."""
        if isinstance(exc, LineTooLong) or (exc is not None and "Too many" in str(exc)):
            rejection = "headers_too_large"
        else:
            rejection = "bad_request" if 400 <= status < 500 else "internal_error"
        metrics.rejected(metrics.UNKNOWN, rejection)
        response = responses.problem(rejection).response()
        response.force_close()
        return response
