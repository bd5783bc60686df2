"""The bytes of a request as text: its target and the form of a login. Must not decide what the text means."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FORM: Final = "application/x-www-form-urlencoded"


def require_readable(request: web.Request) -> None:
    """Raises `HTTPBadRequest`. yarl would leave broken escapes in the text, where they could pass for an id."""
    raw = request.raw_path.encode("utf-8", "surrogateescape")
    if _decoded(raw) is None:
        raise _refused("invalid path or query: expected percent-encoded UTF-8")


async def field_of(request: web.Request, name: str) -> str:
    """The one value of a field of the form. Raises `HTTPBadRequest`.

    aiohttp decodes forms with any codec that the sender names, and fails in many ways on broken ones.
    """
    if request.content_type != _FORM or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise _refused(f"invalid Content-Type: send the form as {_FORM}, in UTF-8")
    values = []
    for pair in (await request.read()).split(b"&"):
        key, _, value = (_decoded(part.replace(b"+", b" ")) for part in pair.partition(b"="))
        if key is None or value is None:
            raise _refused("invalid form: expected percent-encoded UTF-8")
        if key == name:
            values.append(value)
    if len(values) != 1 or not values[0]:
        raise _refused(f"invalid form: expected the field {name!r} once, and not empty")
    return values[0]


def _decoded(raw: bytes) -> str | None:
    if _BROKEN_ESCAPE.search(raw):
        return None
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None


def _refused(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(reason="bad request", text=text)
