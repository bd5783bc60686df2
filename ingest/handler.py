"""One delivery: read, verify, identify, append, answer. The steps are here; how each is done is elsewhere."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from ingest import metrics, responses
from ingest.dedupe import DedupeWindow, key_of
from ingest.event_log import Appended, EventLog
from schemas.envelope import Delivery, Identity, Location, VerifiedDelivery
from schemas.errors import RejectedDelivery, Unavailable
from schemas.providers import identify, verify
from schemas.settings import Source

PREFIX: Final = "/webhooks/"
BODY_SECONDS: Final = 15.0
"""A body must be here by then; the providers' own limits are shorter."""


class Ingress:
    """Every request to `/webhooks/`. `now_ms` is the wall clock in milliseconds."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        log: EventLog,
        window: DedupeWindow,
        public_url: str | None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._sources = sources
        self._log = log
        self._window = window
        self._public_url = public_url.rstrip("/") if public_url else None
        self._now_ms = now_ms
        self._metrics = {name: metrics.SourceMetrics(name) for name in sources}
        self._in_flight: dict[bytes, Appended] = {}
        self.is_caught_up = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The outermost loop of a delivery: whatever happens, an answer with a code."""
        started = time.perf_counter()
        path, _, query = request.raw_path.partition("?")
        name = path[len(PREFIX) :].partition("/")[0]
        source = self._sources.get(name)
        label = name if source else metrics.UNKNOWN
        try:
            if source is None:
                raise RejectedDelivery("unknown_source")
            return await self._receive(source, request, path, query)
        except RejectedDelivery as rejection:
            metrics.rejected(label, rejection.rejection, rejection.status)
            return responses.problem(rejection.rejection)
        except Unavailable:
            metrics.rejected(label, "log_unavailable", 503)
            return responses.problem("log_unavailable")
        except Exception:  # noqa: BLE001 - the outermost loop: counted, logged, answered
            metrics.handler_failed(label)
            return responses.problem("internal_error")
        finally:
            metrics.REQUESTS.observe(time.perf_counter() - started)

    async def _receive(self, source: Source, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        method = request.method
        if method not in source.provider.methods:
            if method == "GET" and source.provider.answer_handshake is not None:
                return responses.challenge(source.provider.answer_handshake(query, source.secrets))
            return self._refuse_method(source)
        body = await read_body(request, source.max_body_bytes)
        now_ms = self._now_ms()
        delivery = Delivery(
            source=source.name,
            method=method,
            url=self._called_url(request) if source.provider.signs_url else "",
            path=path,
            query=query,
            headers=request.headers,
            body=body,
            remote=request.remote or "",
            arrived_ms=now_ms,
        )
        verified = verify(source.provider, delivery, source.secrets, now_ms / 1000)
        identity = identify(source.provider, verified)
        status, location = await self._store(source, verified, identity)
        return responses.stored(request, source.answer, status, identity.record_id, location, now_ms)

    def _called_url(self, request: web.BaseRequest) -> str:
        """The URL as the provider knows it: behind a proxy, only the configuration can tell."""
        base = self._public_url or f"{request.scheme}://{request.headers.get('Host', '')}"
        return base + request.raw_path

    def _refuse_method(self, source: Source) -> web.Response:
        metrics.rejected(source.name, "method_not_allowed", 405)
        handshake = {"GET"} if source.provider.answer_handshake else set[str]()
        return responses.problem("method_not_allowed", allow=source.provider.methods | handshake)

    async def _store(self, source: Source, verified: VerifiedDelivery, identity: Identity) -> tuple[str, Location]:
        """Append once. A copy that meets its first in flight waits for its outcome; nobody waits without bound."""
        if not self.is_caught_up:
            raise Unavailable("the dedupe window is still being read")
        key = key_of(source.name, identity.record_id)
        known = self._window.find(source.name, key, identity.fingerprint, verified.delivery.arrived_ms)
        if known is not None:
            self._metrics[source.name].duplicate(identity.record_id)
            return "duplicate", known
        content = key + identity.fingerprint
        first = self._in_flight.get(content)
        if first is not None:
            location = await first.location()
            self._metrics[source.name].duplicate(identity.record_id)
            return "duplicate", location

        def settle(location: Location | None) -> None:
            """Tied to the append's outcome, not to whoever still waits for the answer."""
            del self._in_flight[content]
            if location is None:
                return
            arrived_ms = verified.delivery.arrived_ms
            is_conflict = self._window.remember(key, identity.fingerprint, location, arrived_ms)
            self._metrics[source.name].accepted(identity.record_id, arrived_ms, is_conflict)

        appended = self._in_flight[content] = self._log.append(source, verified, identity, settle)
        return "accepted", await appended.location()


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The body's exact bytes. Raises `unsupported_media_type`, `body_too_large`, `request_timeout`."""
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RejectedDelivery("unsupported_media_type")
    if request.content_length is not None and request.content_length > limit:
        raise RejectedDelivery("body_too_large")
    content = request.content
    if content.is_eof() and not content.at_eof():
        # All of it is here already, as it is for most deliveries: no need to wait for anything.
        body = content.read_nowait()
        if len(body) > limit:
            raise RejectedDelivery("body_too_large")
        return body
    if headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise RejectedDelivery("body_too_large") from error
    except TimeoutError as error:
        raise RejectedDelivery("request_timeout") from error
    except (ConnectionError, PayloadEncodingError, web.RequestPayloadError) as error:
        # The client hung up, or what it sent is no body: not our failure.
        raise RejectedDelivery("bad_request") from error
    if len(body) > limit:
        raise RejectedDelivery("body_too_large")
    return body
