"""What the ingress answers. Must not decide: a response says what was decided."""

from typing import Final

import orjson
from aiohttp import web

from schemas.envelope import Location
from schemas.errors import REJECTIONS

RECORD_HEADER: Final = "Redrive-Record"
EMPTY_TWIML: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
RETRY_AFTER_SECONDS: Final = "5"
_SAFE: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def stored(answer: str, status: str, record_id: str, location: Location) -> web.Response:
    """200 in the shape that the provider wants; TwiML for Twilio, which texts any plain answer to the customer."""
    if answer == "twiml":
        return web.Response(
            body=EMPTY_TWIML, headers={RECORD_HEADER: str(location), "Content-Type": "text/xml; charset=utf-8"}
        )
    return web.Response(
        body=orjson.dumps({"status": status, "record_id": record_id}),
        headers={RECORD_HEADER: str(location), "Content-Type": "application/json"},
    )


def challenge(text: str) -> web.Response:
    """Meta's handshake: the challenge, bare. Plain text that no browser may take for a page."""
    return web.Response(text=text, content_type="text/plain", headers=_SAFE)


def problem(rejection: str, **extra: str) -> web.Response:
    """RFC 9457, with the stable code."""
    status, detail = REJECTIONS[rejection]
    title = rejection.replace("_", " ").capitalize()
    body = {"type": "about:blank", "title": title, "status": status, "code": rejection, "detail": detail, **extra}
    headers = {"Content-Type": "application/problem+json", **_SAFE}
    if status == 503:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return web.Response(body=orjson.dumps(body), status=status, headers=headers)


def document(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers={"Content-Type": "application/json", **_SAFE})
