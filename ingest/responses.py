"""What the ingress answers. Must not decide: a response says what was decided."""

from collections.abc import Collection
from email.utils import formatdate
from functools import lru_cache
from typing import Final

import orjson
from aiohttp import HttpVersion11, web

from schemas.envelope import Location
from schemas.errors import REJECTIONS

RECORD_HEADER: Final = "Redrive-Record"
EMPTY_TWIML: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
RETRY_AFTER_SECONDS: Final = "5"
_SAFE: Final = {"Server": "redrive", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class PreparedResponse(web.StreamResponse):
    """A 200 written as it is, past aiohttp's headers and writer: what most answers are, at a third of the cost.

    Only for HTTP/1.1 requests that keep their connection; `tests/contract` holds it to what aiohttp would have sent.
    """

    def __init__(self, head_and_body: bytes) -> None:
        # Nothing of the base is used: it is here for its type.
        self._bytes = head_and_body

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(self._bytes)

    async def write_eof(self, data: bytes = b"") -> None:
        """Head and body have gone together."""


_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nRedrive-Record: %b\r\nContent-Length: %d\r\nDate: %b\r\n\r\n%b"


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def stored(
    request: web.BaseRequest, answer: str, status: str, record_id: str, location: Location, now_ms: int
) -> web.StreamResponse:
    """200 in the shape that the provider wants; TwiML for Twilio, which texts any plain answer to the customer."""
    if answer == "twiml":
        content_type, body = "text/xml; charset=utf-8", EMPTY_TWIML
    else:
        content_type, body = "application/json", orjson.dumps({"status": status, "record_id": record_id})
    where = str(location)
    if request.version == HttpVersion11 and request.keep_alive:
        parts = (content_type.encode(), where.encode(), len(body), _date(now_ms // 1000), body)
        return PreparedResponse(_HEAD % parts)
    return web.Response(body=body, headers={RECORD_HEADER: where, "Content-Type": content_type})


def challenge(text: str) -> web.Response:
    """Meta's handshake: the challenge, bare. Plain text that no browser may take for a page."""
    return web.Response(text=text, content_type="text/plain", headers=_SAFE)


def problem(rejection: str, allow: Collection[str] = ()) -> web.Response:
    """RFC 9457, with the stable code; `allow` are the methods that a 405 names."""
    status, detail = REJECTIONS[rejection]
    title = rejection.replace("_", " ").capitalize()
    body = {"type": "about:blank", "title": title, "status": status, "code": rejection, "detail": detail}
    headers = {"Content-Type": "application/problem+json", **_SAFE}
    if status == 503:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    if allow:
        headers["Allow"] = ", ".join(sorted(allow))
    return web.Response(body=orjson.dumps(body), status=status, headers=headers)


def document(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers={"Content-Type": "application/json", **_SAFE})
