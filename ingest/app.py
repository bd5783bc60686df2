"""The ingress as a server: aiohttp's low-level server, without router and middlewares, in front of `Ingress`."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web
from prometheus_client import CONTENT_TYPE_LATEST

from ingest import metrics
from ingest.handler import Ingress
from ingest.http import responses
from ingest.http.connection import HttpConnection, Receive
from ingest.http.limits import Limits
from ingest.http.openapi import description
from ingest.http.whole_request import PREFIX, origin_form

IDLE_SECONDS = 75.0
"""Longer than load balancers keep theirs; who dribbles a request's head for longer is cut off as well."""

VERSIONS: Final = (HttpVersion10, HttpVersion11)
PAGES: Final = ("/healthz", "/readyz", "/metrics", "/openapi.json")

IngressReadiness = Callable[[], Awaitable[tuple[bool, dict[str, bool]]]]


class _IngressServer(web.Server):
    """aiohttp's server, with our connections."""

    def __init__(self, receive: Receive, limits: Limits, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)  # type: ignore[arg-type]
        self._receive = receive
        self._limits = limits

    def __call__(self) -> HttpConnection:
        return HttpConnection(self._receive, self._limits, self, loop=self._loop, **self._kwargs)


def _refuse_version(request: web.BaseRequest) -> web.StreamResponse:
    """aiohttp's parser lets HTTP/0.9 and 2.0 through, and would answer in words that neither of them has."""
    metrics.rejected(metrics.UNKNOWN, "bad_request")
    # The parts of `version`, set when the answer first reads it.
    request._version = HttpVersion10
    response = responses.problem("bad_request").response()
    response.force_close()
    return response


def create_server(ingress: Ingress, limits: Limits, readiness: IngressReadiness) -> web.Server:
    """A server for `web.ServerRunner`. `readiness` says whether it is ready, and what of its dependencies is there."""

    async def route(request: web.BaseRequest) -> web.StreamResponse:
        if request._version not in VERSIONS:
            return _refuse_version(request)
        path, host = origin_form(request.raw_path)
        if path.startswith(PREFIX):
            answer = await ingress.answer(request, path, host)
            if answer.status == HTTPStatus.REQUEST_TIMEOUT:
                # aiohttp would give the rest of the body another ten seconds, and the connection with it.
                request.protocol._lingering_time = 0.0
            return answer.response()
        path = path.partition("?")[0]
        if path not in PAGES:
            return responses.problem("not_found").response()
        if request.method not in ("GET", "HEAD"):
            return responses.problem("method_not_allowed", allow=("GET", "HEAD")).response()
        if path == "/metrics":
            return web.Response(
                body=metrics.exposition(), headers={"Server": responses.SERVER, "Content-Type": CONTENT_TYPE_LATEST}
            )
        if path == "/openapi.json":
            return responses.document(description()).response()
        if path == "/healthz":
            return responses.document({"status": "ok"}).response()
        is_ready, checks = await readiness()
        return responses.document({"ready": is_ready, "checks": checks}, 200 if is_ready else 503).response()

    return _IngressServer(
        ingress.receive,
        limits,
        route,
        # Bodies stay as they were signed: nothing may decompress them.
        auto_decompress=False,
        keepalive_timeout=IDLE_SECONDS,
        max_headers=limits.config.headers,
        max_field_size=limits.config.header_bytes,
        max_line_size=limits.config.header_bytes,
        access_log=None,
    )
