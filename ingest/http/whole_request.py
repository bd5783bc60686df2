"""Deliveries that arrive in one piece, read without aiohttp's parser. Must not be lenient: it knows only the plain
shape that providers send, and leaves whatever differs to aiohttp, which then sees the very same bytes.

`tests/contract/test_whole_request.py` holds it to what aiohttp's parser would have said.
"""

import re
from typing import Final

PREFIX: Final = "/webhooks/"
_START: Final = b"POST /webhooks/"
_PLAIN: Final = bytes(range(0x20, 0x7F)) + b"\r\n"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LEFT_TO_AIOHTTP: Final = frozenset(
    {
        "transfer-encoding",
        "expect",
        "upgrade",
        "trailer",
        "te",
        "content-encoding",
        "http2-settings",
        "sec-websocket-key1",
    }
)
_ABSOLUTE: Final = re.compile(r"https?://(?:[^/?#]*@)?(?P<host>[^/?#@]*)", re.IGNORECASE)
MAX_NAMES: Final = 1024
_MAX_NAME_CHARACTERS: Final = 64

Whole = tuple[str, dict[str, str], bytes]
"""(target, headers by their lower-case names, body)."""

_names: dict[str, str] = {}
"""Header names as they are sent -> in lower case: checked once, then looked up."""


def read_whole(data: bytes, max_headers: int, max_bytes: int) -> Whole | None:
    """A POST to a source, if `data` is exactly that; None for everything else."""
    if not data.startswith(_START):
        return None
    end = data.find(b"\r\n\r\n", 0, max_bytes)
    if end < 0:
        return None
    head = data[:end]
    # Controls, tabs and bytes beyond ASCII are rare, and the way in for smugglers.
    if head.translate(None, _PLAIN):
        return None
    lines = head.decode("ascii").split("\r\n")
    count = len(lines) - 1
    # A CR or LF alone ends no line here, but might for others.
    if count > max_headers or head.count(b"\r") != count or head.count(b"\n") != count:
        return None
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1" or "#" in words[1]:
        return None
    headers: dict[str, str] = {}
    for position in range(1, count + 1):
        sent, colon, value = lines[position].partition(":")
        name = _names.get(sent) or _learn(sent)
        if not name or not colon or name in headers:
            return None
        headers[name] = value.strip(" ")
    body = data[end + 4 :]
    if headers.get("content-length") != str(len(body)) or not headers.get("host"):
        return None
    if "connection" in headers and headers["connection"].lower() != "keep-alive":
        return None
    return words[1], headers, body


def origin_form(target: str) -> tuple[str, str | None]:
    """(path and query, host) of a request target. A server takes the absolute form as well, as proxies send it, and its
    host goes before the header (RFC 9112, 3.2.2); None where the target has none.
    """
    match = _ABSOLUTE.match(target)
    if match is None:
        return target, None
    tail = target[match.end() :]
    return tail if tail.startswith("/") else "/" + tail, match["host"]


def _learn(sent: str) -> str:
    """The name in lower case; empty for an invalid name, or one that is about the connection."""
    name = sent.lower()
    if not _TOKEN.fullmatch(sent) or name in _LEFT_TO_AIOHTTP:
        return ""
    if len(_names) < MAX_NAMES and len(sent) <= _MAX_NAME_CHARACTERS:
        # A client that makes names up must not fill the memory.
        _names[sent] = name
    return name
