"""One delivery: admit, verify, identify, store, answer. The steps are here; how each is done is elsewhere."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from multidict import CIMultiDict

from ingest import metrics
from ingest.append_or_spool import DeliveryOutcome, Storing
from ingest.http import responses
from ingest.http.connection import Reply
from ingest.http.limits import Limits
from ingest.http.responses import HttpAnswer
from ingest.http.whole_request import PREFIX
from ingest.quarantine.quarantine import QuarantineWriter
from ingest.request_metrics import REQUESTS
from schemas.envelope import Delivery, called_url
from schemas.errors import Misconfigured, RejectedDelivery
from schemas.providers import answer_handshake, identify, verify
from schemas.settings import Source

_NO_COMPRESSION: Final = re.compile(
    r"|identity|utf-?(?:8|16|32)(?:le|be)?|(?:us-)?ascii|iso-?8859-?\d{1,2}|latin-?\d|windows-\d{3,4}", re.IGNORECASE
)
"""Encodings that leave a body as it is: none, and charsets, which some senders put there."""


class Exchange:
    """A request to a source, and the answer that it is owed."""

    __slots__ = ("_held", "_limits", "_reply", "_shape", "_started")

    def __init__(self, reply: Reply, source: Source | None) -> None:
        self._started = time.perf_counter()
        self._reply = reply
        self._shape = source.answer if source is not None else ""
        self._held = 0
        self._limits: Limits | None = None

    def hold(self, limits: Limits, size: int) -> None:
        """Count its body among what is in flight, until it is answered. Raises `overloaded`."""
        limits.hold(size)
        self._limits = limits
        self._held = size

    def end(self, outcome: DeliveryOutcome) -> None:
        """Answer what became of the delivery."""
        status, record_id, location = outcome
        if location is not None:
            self.finish(responses.stored(self._shape, status, record_id, location))
        elif status == "spooled":
            self.finish(responses.spooled(self._shape, record_id))
        else:
            self.finish(responses.problem(status))

    def finish(self, answer: HttpAnswer) -> None:
        REQUESTS.observe(time.perf_counter() - self._started)
        if self._limits is not None:
            self._limits.free(self._held)
        self._reply(answer)


class Ingress:
    """Every request to `/webhooks/`. `now_ms` is the wall clock in milliseconds."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        storing: Storing,
        quarantine: QuarantineWriter,
        limits: Limits,
        public_url: str | None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._storing = storing
        self._quarantine = quarantine
        self._limits = limits
        self._public_url = public_url
        self._now_ms = now_ms
        self._disabled: frozenset[str] = frozenset()
        self.use(sources)

    def use(self, sources: Mapping[str, Source]) -> None:
        """Take these sources from the next request on; those under way keep theirs."""
        for name, source in sources.items():
            REQUESTS.announce(name, len(source.secrets.values))
        self._sources = sources

    def disable(self, names: frozenset[str]) -> None:
        """Answer 410 for these sources, and for no others."""
        self._disabled = names

    async def answer(self, request: web.BaseRequest, target: str, host: str | None) -> HttpAnswer:
        """A request whose body may still be on its way. `host`, where it is given, goes before the header."""
        answered: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()

        def reply(answer: HttpAnswer) -> None:
            if not answered.done():
                answered.set_result(answer)

        source = self._sources.get(_source_name(target.partition("?")[0]))
        headers = request.headers if host is None else CIMultiDict([*_without_host(request.headers), ("Host", host)])
        body = b""
        peer = request.remote or ""
        if source is not None:
            try:
                self._admit(source, peer, headers)
                if request.method in source.provider.methods:
                    body = await self._read_body(request, source)
            except RejectedDelivery as rejection:
                return _refuse(source.name, rejection)
        self._take(source, (request.method, target, headers, body, peer), Exchange(reply, source))
        return await answered

    def receive(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, peer: str, reply: Reply
    ) -> None:
        """A whole request. Whatever happens, `reply` is called once: now, or when the log has answered. Never raises.

        `target` is the path with its query as it came; `headers` are looked up in any case.
        """
        source = self._sources.get(_source_name(target.partition("?")[0]))
        exchange = Exchange(reply, source)
        if source is not None:
            try:
                self._admit(source, peer, headers)
                require_readable(headers, len(body), source.max_body_bytes)
            except RejectedDelivery as rejection:
                exchange.finish(_refuse(source.name, rejection))
                return
        self._take(source, (method, target, headers, body, peer), exchange)

    def _admit(self, source: Source, peer: str, headers: Mapping[str, str]) -> None:
        """The cheapest check comes first. Raises `RejectedDelivery`."""
        if source.name in self._disabled:
            raise RejectedDelivery("source_disabled")
        if source.allow_from or source.requests_per_second is not None:
            self._limits.admit(source, self._limits.caller(peer, headers))

    def _take(
        self, source: Source | None, request: tuple[str, str, Mapping[str, str], bytes, str], exchange: Exchange
    ) -> None:
        """An admitted request: its method, target, headers, body and peer."""
        method, target, headers, body, peer = request
        label = source.name if source is not None else metrics.UNKNOWN
        try:
            if source is None:
                raise RejectedDelivery("unknown_source")
            path, _, query = target.partition("?")
            if method not in source.provider.methods:
                exchange.finish(_answer_other_method(source, method, query))
                return
            exchange.hold(self._limits, len(body))
            now_ms = self._now_ms()
            url = called_url(self._public_url, headers.get("host", ""), target) if source.provider.signs_url else ""
            delivery = Delivery(label, method, url, path, query, headers, body, peer, now_ms)
            try:
                verified = verify(source.provider, delivery, source.secrets, now_ms / 1000)
            except RejectedDelivery as rejection:
                if rejection.rejection == "verification_failed":
                    metrics.provider_failed(label, rejection.__cause__ or rejection)
                if not _is_kept(rejection):
                    raise
                self._keep(source, delivery, rejection, exchange)
                return
            REQUESTS.match(label, verified.secret_index)
            self._storing.store(source, verified, identify(source.provider, verified), exchange.end)
        except RejectedDelivery as rejection:
            exchange.finish(_refuse(label, rejection))
        except Misconfigured:
            exchange.finish(_refuse(label, RejectedDelivery("misconfigured")))
        except Exception:  # noqa: BLE001 - the outermost of a delivery: counted, logged, answered
            metrics.handler_failed(label)
            exchange.finish(responses.problem("internal_error"))

    def _keep(self, source: Source, delivery: Delivery, rejection: RejectedDelivery, exchange: Exchange) -> None:
        """Apart, to be verified again; refused either way."""

        def answer(is_kept: bool) -> None:
            if is_kept:
                metrics.quarantined(source.name, rejection.rejection)
                exchange.finish(responses.problem(rejection.rejection))
            else:
                exchange.finish(_refuse(source.name, rejection))

        self._quarantine.keep(source, delivery, rejection.rejection, answer)

    async def _read_body(self, request: web.BaseRequest, source: Source) -> bytes:
        """The body's exact bytes. Raises `unsupported_media_type`, `body_too_large`, `overloaded`, `request_timeout`,
        `bad_request`.
        """
        length = request.content_length
        require_readable(request.headers, length or 0, source.max_body_bytes)
        held = source.max_body_bytes if length is None else length
        self._limits.hold(held)
        try:
            return await read_body(request, source.max_body_bytes, self._limits.config.body_seconds)
        finally:
            self._limits.free(held)


def _is_kept(rejection: RejectedDelivery) -> bool:
    """True if a refused delivery goes into the quarantine: the fault may be our secret, the provider's code or, if the
    signature is right and only its time is not, the clock.
    """
    return rejection.rejection in ("signature_mismatch", "verification_failed") or rejection.signed_at is not None


def _without_host(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() != "host"]


def _source_name(path: str) -> str:
    return path[len(PREFIX) :].partition("/")[0]


def _answer_other_method(source: Source, method: str, query: str) -> HttpAnswer:
    """A handshake, where the provider has one; else 405. Raises `RejectedDelivery`."""
    has_handshake = source.provider.answer_handshake is not None
    if method == "GET" and has_handshake:
        return responses.challenge(answer_handshake(source.provider, query, source.secrets))
    metrics.rejected(source.name, "method_not_allowed")
    others = {"GET"} if has_handshake else set[str]()
    return responses.problem("method_not_allowed", allow=source.provider.methods | others)


def _refuse(label: str, rejection: RejectedDelivery) -> HttpAnswer:
    metrics.rejected(label, rejection.rejection)
    return responses.problem(rejection.rejection)


def require_readable(headers: Mapping[str, str], length: int, limit: int) -> None:
    """Raises `unsupported_media_type` or `body_too_large`."""
    # A transfer coding beside `chunked` is a compression, too.
    codings = headers.get("content-encoding", "").split(",")
    is_plain = all(_NO_COMPRESSION.fullmatch(coding.partition(";")[0].strip()) for coding in codings)
    if not is_plain or headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise RejectedDelivery("unsupported_media_type")
    if length > limit:
        raise RejectedDelivery("body_too_large")


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """At most `limit` bytes, whatever was announced. Raises `body_too_large`, `request_timeout`, `bad_request`."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = bytearray()
        async with asyncio.timeout(seconds):
            while piece := await request.content.readany():
                body += piece
                if len(body) > limit:
                    raise RejectedDelivery("body_too_large")
        return bytes(body)
    except TimeoutError as error:
        raise RejectedDelivery("request_timeout") from error
    except (ConnectionError, PayloadEncodingError, web.RequestPayloadError) as error:
        # The client hung up, or sent an invalid body: not our failure.
        raise RejectedDelivery("bad_request") from error
