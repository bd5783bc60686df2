"""The HTTP server of consoles and health pages: what aiohttp would refuse in words of its own is a problem like every
other, and no answer names the library. Must not know a route.
"""

from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from replay.api.problems import problem, problem_of

SERVER: Final = "redrive"


class _Connection(RequestHandler):
    """aiohttp's, whose answers all leave through `finish_response`."""

    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        answer = problem_of(resp) if isinstance(resp, web.HTTPException) else resp
        answer.headers["Server"] = SERVER
        if "transfer-encoding" in request.headers:
            # aiohttp's parser gives the last trailer of a chunked body to the next request on the connection.
            answer.force_close()
        return await super().finish_response(request, answer, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP, of which no traceback is written; or an error of ours that no route caught."""
        if 400 <= status < 500:
            answer = problem(status, "bad_request", "The request is not HTTP as the standard has it.")
        else:
            self.log_exception("Error handling request", exc_info=exc)
            answer = problem(status, "internal_error", "An error of ours; the service's log says more.")
        answer.force_close()
        return answer


class _ServiceServer(web.Server):
    """aiohttp's, with our connections."""

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Serves an application with that server."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _ServiceServer(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
