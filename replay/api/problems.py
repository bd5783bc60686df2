"""Problems as the operators' service answers them: RFC 9457, with a stable code. Must not decide which one it is."""

from typing import Final

import orjson
from aiohttp import web

_KEPT: Final = "Allow"
"""The one header of aiohttp's own refusals that says something."""


def problem(status: int, code: str, detail: str) -> web.Response:
    body = {
        "type": "about:blank",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
    }
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/problem+json")


def problem_of(error: web.HTTPException) -> web.Response:
    """A refusal of aiohttp or of a route of ours. The code is its reason, the detail its text if that says more."""
    code, generic = (error.reason or "error").lower().replace(" ", "_"), f"{error.status}: {error.reason}"
    found = problem(error.status, code, (error.reason if error.text == generic else error.text) or "")
    if _KEPT in error.headers:
        found.headers[_KEPT] = error.headers[_KEPT]
    return found
