"""The ingress as a server: aiohttp's low-level server, without router and middlewares, in front of `Ingress`."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ingest import metrics, responses
from ingest.connection import Connection, Receive
from ingest.handler import Ingress
from ingest.limits import Limits
from ingest.openapi import description
from ingest.whole_request import PREFIX

MAX_BODY_BYTES = 5 * 1024 * 1024
"""Above every source's own limit; the source's is checked first where the length is known."""

IDLE_SECONDS = 75.0
"""Longer than load balancers keep theirs; who dribbles a request's head for longer is cut off as well."""

PAGES: Final = ("/healthz", "/readyz", "/metrics", "/openapi.json")

Readiness = Callable[[], Awaitable[tuple[bool, dict[str, bool]]]]


class _Server(web.Server):
    """aiohttp's server, with our connections."""

    def __init__(self, receive: Receive, limits: Limits, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)  # type: ignore[arg-type]
        self._receive = receive
        self._limits = limits

    def __call__(self) -> Connection:
        return Connection(self._receive, self._limits, self, loop=self._loop, **self._kwargs)


def create_server(ingress: Ingress, limits: Limits, readiness: Readiness) -> web.Server:
    """A server for `web.ServerRunner`. `readiness` says whether it is ready, and what of its dependencies is there."""

    async def route(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if path.startswith(PREFIX):
            return (await ingress.answer(request)).response()
        path = path.partition("?")[0]
        if path not in PAGES:
            return responses.problem("not_found").response()
        if request.method not in ("GET", "HEAD"):
            return responses.problem("method_not_allowed", allow=("GET", "HEAD")).response()
        if path == "/metrics":
            return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})
        if path == "/openapi.json":
            return responses.document(description()).response()
        if path == "/healthz":
            return responses.document({"status": "ok"}).response()
        is_ready, checks = await readiness()
        return responses.document({"ready": is_ready, "checks": checks}, 200 if is_ready else 503).response()

    def make_request(message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]
        return web.BaseRequest(message, payload, protocol, writer, task, protocol._loop, client_max_size=MAX_BODY_BYTES)

    return _Server(
        ingress.receive,
        limits,
        route,
        request_factory=make_request,
        # Bodies stay as they were signed: nothing may decompress them.
        auto_decompress=False,
        keepalive_timeout=IDLE_SECONDS,
        max_headers=limits.config.headers,
        max_field_size=limits.config.header_bytes,
        max_line_size=limits.config.header_bytes,
        access_log=None,
    )
