"""One delivery: verify, identify, append, answer. The steps are here; how each is done is elsewhere."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from ingest import metrics, responses
from ingest.connection import PREFIX, Reply
from ingest.dedupe import DedupeWindow, key_of
from ingest.event_log import Append, EventLog
from ingest.quarantine import Quarantine
from ingest.responses import Answer
from schemas.envelope import Delivery, Identity, Location, VerifiedDelivery, called_url
from schemas.errors import Misconfigured, RejectedDelivery, Unavailable
from schemas.providers import identify, verify
from schemas.settings import Source

BODY_SECONDS: Final = 15.0
"""A body must be here by then; the providers' own limits are shorter."""


class Ingress:
    """Every request to `/webhooks/`. `now_ms` is the wall clock in milliseconds."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        log: EventLog,
        window: DedupeWindow,
        quarantine: Quarantine,
        public_url: str | None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._log = log
        self._window = window
        self._quarantine = quarantine
        self._public_url = public_url
        self._now_ms = now_ms
        self._metrics: dict[str, metrics.SourceMetrics] = {}
        self._disabled: frozenset[str] = frozenset()
        self.use(sources)
        self._in_flight: dict[bytes, Append] = {}
        self.is_caught_up = False

    def use(self, sources: Mapping[str, Source]) -> None:
        """Take these sources from the next request on; those under way keep theirs."""
        for name, source in sources.items():
            if name not in self._metrics:
                self._metrics[name] = metrics.SourceMetrics(name, len(source.secrets.values))
        self._sources = sources

    def disable(self, names: frozenset[str]) -> None:
        """Answer 410 for these sources, and for no others."""
        self._disabled = names

    async def answer(self, request: web.BaseRequest) -> Answer:
        """A request whose body may still be on its way."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        path = request.raw_path.partition("?")[0]
        source = self._sources.get(_source_name(path))
        body = b""
        is_open = source is not None and source.name not in self._disabled
        if source is not None and is_open and request.method in source.provider.methods:
            try:
                body = await read_body(request, source.max_body_bytes)
            except RejectedDelivery as rejection:
                return _refuse(source.name, rejection)
        self.receive(request.method, request.raw_path, request.headers, body, request.remote or "", reply)
        return await answered

    def receive(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, remote: str, reply: Reply
    ) -> None:
        """A whole request. Whatever happens, `reply` is called once: now, or when the log has answered. Never raises.

        `target` is the path with its query as it came; `headers` are looked up in any case.
        """
        exchange = _Exchange(reply)
        path, _, query = target.partition("?")
        name = _source_name(path)
        source = self._sources.get(name)
        label = name if source else metrics.UNKNOWN
        try:
            if source is None:
                raise RejectedDelivery("unknown_source")
            if name in self._disabled:
                raise RejectedDelivery("source_disabled")
            if method not in source.provider.methods:
                exchange.finish(_answer_other_method(source, method, query))
                return
            require_readable(headers, len(body), source.max_body_bytes)
            now_ms = self._now_ms()
            url = called_url(self._public_url, headers.get("Host", ""), target) if source.provider.signs_url else ""
            delivery = Delivery(source.name, method, url, path, query, headers, body, remote, now_ms)
            try:
                verified = verify(source.provider, delivery, source.secrets, now_ms / 1000)
            except RejectedDelivery as rejection:
                if rejection.rejection != "signature_mismatch":
                    raise
                # Ours may be the secret that is wrong.
                exchange.source = source
                self._quarantine.keep(source, delivery, rejection.rejection, exchange.answer_mismatch)
                return
            metrics.REQUESTS.match(name, verified.secret_index)
            self._store(source, verified, identify(source.provider, verified), exchange)
        except RejectedDelivery as rejection:
            exchange.finish(_refuse(label, rejection))
        except Misconfigured:
            exchange.finish(_refuse(label, RejectedDelivery("misconfigured")))
        except Unavailable:
            exchange.finish(_unavailable(label))
        except Exception:  # noqa: BLE001 - the outermost of a delivery: counted, logged, answered
            metrics.handler_failed(label)
            exchange.finish(responses.problem("internal_error"))

    def _store(self, source: Source, verified: VerifiedDelivery, identity: Identity, exchange: "_Exchange") -> None:
        """Append once. A copy that meets its first in flight waits for its outcome; nobody waits without bound."""
        if not self.is_caught_up:
            raise Unavailable("the dedupe window is still being read")
        record_id, _, _, fingerprint = identity
        arrived_ms = verified.delivery.arrived_ms
        key = key_of(source.name, record_id)
        exchange.source, exchange.record_id = source, record_id
        known = self._window.find(source.name, key, fingerprint, arrived_ms)
        if known is not None:
            exchange.answer_duplicate(known)
            return
        content = key + fingerprint
        first = self._in_flight.get(content)
        if first is not None:
            first.wait(exchange.answer_duplicate)
            return

        def settle(location: Location | None) -> None:
            """Tied to the append's outcome, not to whoever still waits for the answer."""
            del self._in_flight[content]
            if location is not None:
                is_conflict = self._window.remember(key, fingerprint, location, arrived_ms)
                self._metrics[source.name].accepted(record_id, arrived_ms, is_conflict)

        self._in_flight[content] = self._log.append(source, verified, identity, settle, exchange.answer_accepted)


class _Exchange:
    """A request and the answer that it is owed."""

    __slots__ = ("record_id", "reply", "source", "started")

    def __init__(self, reply: Reply) -> None:
        self.started = time.perf_counter()
        self.reply = reply
        self.source: Source
        self.record_id: str

    def finish(self, answer: Answer) -> None:
        metrics.REQUESTS.observe(time.perf_counter() - self.started)
        self.reply(answer)

    def answer_accepted(self, location: Location | None) -> None:
        self._answer_stored("accepted", location)

    def answer_duplicate(self, location: Location | None) -> None:
        if location is not None:
            metrics.duplicate(self.source.name, self.record_id)
        self._answer_stored("duplicate", location)

    def answer_mismatch(self, is_kept: bool) -> None:
        rejection = RejectedDelivery("signature_mismatch")
        if is_kept:
            metrics.quarantined(self.source.name, rejection.rejection)
            self.finish(responses.problem(rejection.rejection))
        else:
            self.finish(_refuse(self.source.name, rejection))

    def _answer_stored(self, status: str, location: Location | None) -> None:
        if location is None:
            self.finish(_unavailable(self.source.name))
        else:
            self.finish(responses.stored(self.source.answer, status, self.record_id, location))


def _source_name(path: str) -> str:
    return path[len(PREFIX) :].partition("/")[0]


def _answer_other_method(source: Source, method: str, query: str) -> Answer:
    """A handshake, where the provider has one; else 405. Raises `RejectedDelivery`."""
    handshake = source.provider.answer_handshake
    if method == "GET" and handshake is not None:
        return responses.challenge(handshake(query, source.secrets))
    metrics.rejected(source.name, "method_not_allowed", 405)
    others = {"GET"} if handshake else set[str]()
    return responses.problem("method_not_allowed", allow=source.provider.methods | others)


def _refuse(label: str, rejection: RejectedDelivery) -> Answer:
    metrics.rejected(label, rejection.rejection, rejection.status)
    return responses.problem(rejection.rejection)


def _unavailable(label: str) -> Answer:
    metrics.rejected(label, "log_unavailable", 503)
    return responses.problem("log_unavailable")


def require_readable(headers: Mapping[str, str], length: int, limit: int) -> None:
    """Raises `unsupported_media_type` or `body_too_large`."""
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RejectedDelivery("unsupported_media_type")
    if length > limit:
        raise RejectedDelivery("body_too_large")


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The body's exact bytes. Raises `unsupported_media_type`, `body_too_large`, `request_timeout`, `bad_request`."""
    require_readable(request.headers, request.content_length or 0, limit)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise RejectedDelivery("body_too_large") from error
    except TimeoutError as error:
        raise RejectedDelivery("request_timeout") from error
    except (ConnectionError, PayloadEncodingError, web.RequestPayloadError) as error:
        # The client hung up, or what it sent is no body: not our failure.
        raise RejectedDelivery("bad_request") from error
