"""Requests as they come off the wire: what the ingress reads by itself, aiohttp's parser must have read the same."""

import asyncio
import re
from functools import cache
from random import Random
from typing import Final

from aiohttp import HttpVersion11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser

from ingest.http.whole_request import read_whole
from tests.fuzz.mutation import Native

BODY: Final = b'{"id":"evt_1"}'
START: Final = b"POST /webhooks/stripe HTTP/1.1"
PLAIN: Final = (
    b"POST /webhooks/stripe?a=b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    b"Stripe-Signature: t=1,v1=ab\r\nContent-Length: 14\r\n\r\n" + BODY
)
SEEDS: Final = (
    PLAIN,
    PLAIN.replace(b"Content-Type", b"Connection: keep-alive\r\nContent-Type"),
    START + b"\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
)
_LINES: Final = (
    b"Host: h", b"host:", b"Transfer-Encoding: chunked", b"transfer-encoding : identity", b"Content-Length: 0", b"Content-Length: +14",
    b"content-length:14", b"Connection: close", b"Connection: keep-alive, upgrade", b"Upgrade: websocket", b"Expect: 100-continue",
    b"Content-Encoding: deflate", b"Sec-WebSocket-Key1: a", b"X: a", b"X:", b" folded", b"\tfolded", b": a", b"Trailer: x", b"TE: trailers",
    b"Keep-Alive: timeout=5", b"X-!#$%&'*+.^_`|~: a", b"Cookie: a=b; c", b"X: \"a\\\"b\"",
)  # fmt: skip
_TARGETS: Final = (
    b"/webhooks/a", b"/webhooks/", b"/webhooks/../x", b"/webhooks//x", b"/webhooks/a%20b", b"/webhooks/%", b"/webhooks/a?b?c", b"/webhooks/a#b",
    b"/webhooks/http://x/y", b"/webhooks/a@b:80", b"/webhooks/a\\b", b"/webhooks/{}<>|^`\"",
)  # fmt: skip
_BYTES: Final = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b",",
    b";",
    b"#",
    b"%0d%0a",
)
_LENGTH: Final = re.compile(rb"(?i)(content-length: *)\d+")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """For what the parser makes; it never runs."""
    return asyncio.new_event_loop()


def check_read_alike(data: bytes) -> bool:
    """Whether the short road takes it; if so, aiohttp must have understood exactly the same."""
    whole = read_whole(data, 128, 8190)
    if whole is None:
        return False
    target, headers, body = whole
    parser = HttpRequestParser(BaseProtocol(_loop()), _loop(), 2**16, auto_decompress=False)
    messages, is_upgraded, tail = parser.feed_data(data)
    assert len(messages) == 1
    message, payload = messages[0]
    assert (message.method, message.path, message.version) == ("POST", target, HttpVersion11)
    assert headers == {name.lower(): value for name, value in message.headers.items()}
    assert len(headers) == len(message.headers)
    assert payload.is_eof()
    assert b"".join(getattr(payload, "_buffer", ())) == body
    assert not any([message.should_close, message.upgrade, message.compression, message.chunked, is_upgraded, tail])
    return True


def mutate_http(data: bytes, random: Random, native: Native) -> bytes:
    """Lines, targets and stray bytes; most have the length that their body has, or nothing would be read."""
    kind = random.random()
    head, separator, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if kind < 0.1:
        return native(data)
    if kind < 0.25:
        lines[0] = b" ".join((b"POST", random.choice(_TARGETS), b"HTTP/1.1"))
    elif kind < 0.55:
        lines.insert(random.randint(1, len(lines)), random.choice(_LINES))
    elif kind < 0.65 and len(lines) > 2:
        del lines[random.randrange(1, len(lines))]
    elif kind < 0.9:
        number = random.randrange(len(lines))
        at = random.randint(0, len(lines[number]))
        lines[number] = lines[number][:at] + random.choice(_BYTES) + lines[number][at + random.randint(0, 1) :]
    else:
        body = native(body)
    head = b"\r\n".join(lines)
    if random.random() < 0.8:
        head = _LENGTH.sub(lambda found: found[1] + b"%d" % len(body), head)
    return head + (separator or b"\r\n\r\n") + body
