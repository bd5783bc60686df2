"""The answers of the ingress. Must not decide: an answer reports a decision."""

from collections.abc import Collection
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

import orjson
from aiohttp import web

from schemas.envelope import Location
from schemas.errors import REJECTIONS

EMPTY_TWIML: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
RETRY_AFTER_SECONDS: Final = "5"
SERVER: Final = "redrive"
"""Where no header does, aiohttp would name itself and its version."""

_SAFE: Final = f"Server: {SERVER}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class HttpAnswer(NamedTuple):
    """Status, header lines (each ended by CR LF; without length and date) and body."""

    status: int
    headers: str
    body: bytes

    def encoded(self, now: int) -> bytes:
        """The answer as it goes over a kept connection of HTTP/1.1. `now` is seconds since the epoch."""
        length = len(self.body)
        head = f"{_status_line(self.status)}{self.headers}Content-Length: {length}\r\nDate: {_date(now)}\r\n\r\n"
        return head.encode("latin-1") + self.body

    def response(self) -> web.Response:
        """The same for aiohttp's own writer, which knows the rest of HTTP."""
        headers = {"Server": SERVER} | dict(line.split(": ", 1) for line in self.headers.splitlines())
        return web.Response(body=self.body, status=self.status, headers=headers)


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n"


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def stored(shape: str, status: str, record_id: str, location: Location) -> HttpAnswer:
    """200 in the shape that the provider wants; TwiML for Twilio, which texts any plain answer to the customer."""
    topic, partition, offset = location
    where = f"Redrive-Record: {topic}/{partition}/{offset}\r\n"
    if shape == "twiml":
        return HttpAnswer(200, f"Content-Type: text/xml; charset=utf-8\r\n{where}", EMPTY_TWIML)
    body = orjson.dumps({"status": status, "record_id": record_id})
    return HttpAnswer(200, f"Content-Type: application/json\r\n{where}", body)


def spooled(shape: str, record_id: str) -> HttpAnswer:
    """200 for what is durable here and on its way to the log: where it will be there, nobody knows yet."""
    if shape == "twiml":
        return HttpAnswer(200, "Content-Type: text/xml; charset=utf-8\r\n", EMPTY_TWIML)
    return HttpAnswer(
        200, "Content-Type: application/json\r\n", orjson.dumps({"status": "spooled", "record_id": record_id})
    )


def challenge(text: str) -> HttpAnswer:
    """Meta's handshake: the challenge, bare. Plain text that no browser may take for a page.

    The bytes go back as they came, even if they are not UTF-8.
    """
    return HttpAnswer(
        200, f"Content-Type: text/plain; charset=utf-8\r\n{_SAFE}", text.encode("utf-8", "surrogateescape")
    )


def problem(rejection: str, allow: Collection[str] = ()) -> HttpAnswer:
    """RFC 9457, with the stable code; `allow` are the methods that a 405 names."""
    status, detail = REJECTIONS[rejection]
    title = rejection.replace("_", " ").capitalize()
    body = {"type": "about:blank", "title": title, "status": status, "code": rejection, "detail": detail}
    headers = f"Content-Type: application/problem+json\r\n{_SAFE}"
    if status in (429, 503):
        headers += f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
    if allow:
        headers += f"Allow: {', '.join(sorted(allow))}\r\n"
    return HttpAnswer(status, headers, orjson.dumps(body))


def document(body: object, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, f"Content-Type: application/json\r\n{_SAFE}", orjson.dumps(body))
