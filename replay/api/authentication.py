"""Authentication in the console: by the key, or by a session that it gave out. Must not know permissions."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import SecretStr

from replay import metrics
from schemas.token_bucket import TokenBucket

KEY_HEADER: Final = "X-Admin-API-Key"
COOKIE: Final = "redrive_session"
SESSION_SECONDS: Final = 12 * 3600
WRONG_KEYS: Final = 10
"""From one address at once; then one more every `SECONDS_PER_KEY`."""

SECONDS_PER_KEY: Final = 6
_ADDRESSES: Final = 1024
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Throttled(Exception):
    """Too many wrong keys from this address. A right one is taken all the same: several may share an address."""


class CrossSite(Exception):
    """Another site's page made the browser send this, with the session that it keeps."""


class Authentication:
    """Sessions are derived from the key and their end, so that none has to be kept; a new key ends all of them."""

    def __init__(self, key: SecretStr | None, now: Callable[[], float] = time.time) -> None:
        self._key = key.get_secret_value() if key else ""
        self._now = now
        self._attempts: OrderedDict[str, TokenBucket] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Without a key nobody comes in."""
        return bool(self._key)

    def knows(self, request: web.Request) -> bool:
        """By its key or its session. Raises `Throttled` or `CrossSite`."""
        if not self.is_open:
            return False
        if KEY_HEADER in request.headers:
            return self.is_key(request, request.headers[KEY_HEADER])
        if not self._is_session(request.cookies.get(COOKIE, "")):
            return False
        # A cookie comes along whoever asks for it; SameSite alone lets a neighbour on the same site in.
        if request.method not in _SAFE_METHODS and not _is_same_origin(request):
            raise CrossSite
        return True

    def is_key(self, request: web.Request, presented: str) -> bool:
        """Raises `Throttled`."""
        if self.is_open and _equal(presented, self._key):
            return True
        bucket = self._bucket(request.remote or "")
        if not bucket.has(1, self._now()):
            metrics.console_refused("throttled")
            raise Throttled
        bucket.take(1)
        metrics.console_refused("wrong_key")
        return False

    def start_session(self, request: web.Request, response: web.Response) -> None:
        """The cookie, and over TLS (that a proxy may have ended) for TLS alone."""
        forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
        end = str(int(self._now()) + SESSION_SECONDS)
        response.set_cookie(
            COOKIE,
            f"{end}.{self._sign(end)}",
            httponly=True,
            samesite="Strict",
            secure=request.secure or forwarded == "https",
            max_age=SESSION_SECONDS,
        )

    def _is_session(self, presented: str) -> bool:
        end, _, signature = presented.partition(".")
        # A cookie may hold any bytes, also those of another service on this host.
        return end.isascii() and end.isdigit() and _equal(signature, self._sign(end)) and int(end) > self._now()

    def _sign(self, end: str) -> str:
        return hmac.digest(self._key.encode(), b"redrive console session " + end.encode(), "sha256").hex()

    def _bucket(self, address: str) -> TokenBucket:
        """Those of the addresses seen last: a flood of others costs memory for so many and no more."""
        found = self._attempts.pop(address, None) or TokenBucket(WRONG_KEYS, 1 / SECONDS_PER_KEY, self._now())
        self._attempts[address] = found
        if len(self._attempts) > _ADDRESSES:
            self._attempts.popitem(last=False)
        return found


def _equal(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "replace"), expected.encode())


def _is_same_origin(request: web.Request) -> bool:
    """As the browser says; over plain HTTP it says no more than `Origin`. Programs that keep cookies send neither."""
    said = request.headers.get("Sec-Fetch-Site")
    if said is not None:
        return said in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    hosts = {request.headers.get("Host", ""), request.headers.get("X-Forwarded-Host", "")}
    try:
        return urlsplit(origin).netloc.lower() in {host.lower() for host in hosts if host}
    except ValueError:
        # Not a URL, so not ours.
        return False
