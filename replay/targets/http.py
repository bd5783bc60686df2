"""Records sent to an endpoint: several at once, tried again while that helps, an outcome for each.

Follows no redirect, uses no proxy of the environment, keeps no cookie and nothing of an answer but its status.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self, cast

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential, wait_random
from yarl import URL

from processors.outcome import RawRecord
from replay.ports import SendResult
from replay.targets.addresses import AllowedResolver
from replay.targets.document import HttpTarget
from replay.targets.request import Outgoing, Unsendable, request_of
from schemas.errors import Unavailable
from schemas.masking import describe

ANSWER_BYTES: Final = 64 * 1024
"""Response bytes to read so that the connection can be reused; a longer response closes it."""

ANSWER_SECONDS: Final = 1.0
_TOO_MANY: Final = 429
_NO_HEADERS_OF_ITS_OWN: Final = ("Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an endpoint is waited for, and how often one record is tried."""

    request_seconds: float = 10.0
    connect_seconds: float = 5.0
    attempts: int = 5
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 10.0
    longest_asked_seconds: float = 60.0
    """The limit for a `Retry-After`."""


@dataclass(frozen=True, slots=True)
class _HttpResponse:
    """The result of one attempt. `is_away`: the endpoint took no connection, so it is not the record's fault."""

    status: int | None = None
    error: str | None = None
    can_retry: bool = False
    is_away: bool = False
    retry_after: float | None = None


class HttpSender:
    """A replay's target over HTTP."""

    portion: Final = 64
    """Records that are taken at once, so that a slow endpoint holds up neither progress nor a pause for long."""

    def __init__(
        self,
        target: HttpTarget,
        replay: str,
        resolver: AllowedResolver,
        secrets: Mapping[str, str],
        patience: Patience | None = None,
    ) -> None:
        self._target = target
        self._replay = replay
        self._resolver = resolver
        self._secrets = secrets
        self._patience = patience or Patience()
        self._slots = asyncio.Semaphore(target.concurrency)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises `InvalidSelection` for a forbidden address, `Unavailable` for a name that does not resolve."""
        # The client resolves names alone; an address in the URL is asked about here.
        await self._resolver.require(self._target.host)
        session = aiohttp.ClientSession(
            # Its own limit would count the time in its queue as the endpoint's.
            connector=aiohttp.TCPConnector(limit=0, resolver=self._resolver, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(self._patience.request_seconds, sock_connect=self._patience.connect_seconds),
            headers={"User-Agent": "redrive-replay"},
            skip_auto_headers=_NO_HEADERS_OF_ITS_OWN,
            auto_decompress=False,
            trust_env=False,
        )
        self._session = await self._open.enter_async_context(session)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def take(self, records: Sequence[RawRecord]) -> Sequence[SendResult]:
        """Raises `Unavailable` where nobody takes connections there, `InvalidSelection` for a forbidden address."""
        away: list[str] = []
        taken: list[SendResult | None] = [None] * len(records)
        waiting = iter(range(len(records)))

        async def work() -> None:
            """Send one after the other, until none is left or somebody found nobody there."""
            for index in waiting:
                became = await self._deliver(records[index])
                if isinstance(became, str):
                    away.append(became)
                else:
                    taken[index] = became
                if away:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._target.concurrency, len(records))):
                    group.create_task(work())
        except ExceptionGroup as failed:
            # An address that is not allowed: all of them say the same.
            raise failed.exceptions[0] from failed
        if away:
            raise Unavailable(f"{self._target.origin} takes no connections: {away[0]}")
        return [one for one in taken if one is not None]

    async def _deliver(self, record: RawRecord) -> SendResult | str:
        """The outcome; a text: why the endpoint is away."""
        attempts = 0

        async def attempt() -> _HttpResponse:
            nonlocal attempts
            attempts += 1
            async with self._slots:
                # Anew for each: what is signed may say when.
                now = int(time.time())
                return await self._send(request_of(record, self._target, self._replay, self._secrets, now))

        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            stop=stop_after_attempt(self._patience.attempts),
            wait=self._wait,
            retry=retry_if_result(lambda answer: answer.can_retry),
            retry_error_callback=_last,
        )
        try:
            answer: _HttpResponse = await retrying(attempt)
        except Unsendable as error:
            return SendResult("failed", None, 0, str(error))
        if answer.is_away:
            return answer.error or "no answer"
        return SendResult("failed" if answer.error else "delivered", answer.status, attempts, answer.error)

    async def _send(self, request: Outgoing) -> _HttpResponse:
        try:
            async with self._session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body or None,
                headers=request.headers,
                allow_redirects=False,
            ) as response:
                await _finish(response)
                return _answer_of(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return _HttpResponse(error=_reason(error), can_retry=True, is_away=True)
        except TimeoutError:
            return _HttpResponse(error=f"no answer within {self._patience.request_seconds:g} s", can_retry=True)
        except (aiohttp.ClientError, OSError) as error:
            return _HttpResponse(error=_reason(error), can_retry=True)

    def _wait(self, state: RetryCallState) -> float:
        asked = _last(state).retry_after
        if asked is not None:
            return min(asked, self._patience.longest_asked_seconds)
        first, longest = self._patience.first_wait_seconds, self._patience.longest_wait_seconds
        return (wait_exponential(multiplier=first, max=longest) + wait_random(0, first))(state)


def _last(state: RetryCallState) -> _HttpResponse:
    found: _HttpResponse = cast("Future[_HttpResponse]", state.outcome).result()
    return found


def _answer_of(response: aiohttp.ClientResponse) -> _HttpResponse:
    status = response.status
    if 200 <= status < 300:
        return _HttpResponse(status)
    if 300 <= status < 400:
        return _HttpResponse(status, "the endpoint redirects; replays follow no redirects")
    if status == _TOO_MANY or status >= 500:
        return _HttpResponse(
            status,
            f"answered {status}",
            can_retry=True,
            retry_after=seconds_asked(response.headers.get("Retry-After", "")),
        )
    return _HttpResponse(status, f"answered {status}")


def seconds_asked(retry_after: str) -> float | None:
    """From now: the header says seconds, or a time."""
    said = retry_after.strip()
    if said.isascii() and said.isdigit() and len(said) <= 9:
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except (ValueError, OverflowError):
        return None
    return max((until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Read what little there is; the status has been said, whatever becomes of the body."""
    left = ANSWER_BYTES
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while left > 0 and (chunk := await response.content.readany()):
                left -= len(chunk)
    except (TimeoutError, aiohttp.ClientError, OSError):
        left = 0
    if left <= 0:
        response.close()


def _reason(error: BaseException) -> str:
    """Short, and without what the other side said."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, aiohttp.ServerDisconnectedError):
        return "it closed the connection before it answered"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror[:200]
    return describe(inner)[:200]
