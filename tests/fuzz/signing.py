"""Any request, signed by the tests' own hand, so that the fuzzer gets behind the verification of every provider."""

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from schemas.providers import PROVIDERS
from schemas.providers.base import Secrets
from tests.fuzz.request import NOW, PUBLIC_URL, Request
from tests.support import (
    signing,
    signing_aircall,
    signing_google_calendar,
    signing_hubspot,
    signing_retell,
    signing_sendgrid,
    signing_telnyx,
)

SECRETS = {
    "stripe": Secrets((signing.STRIPE,)),
    "whatsapp": Secrets((signing.WHATSAPP,), "token"),
    "twilio": Secrets((signing.TWILIO,)),
    "aircall": Secrets((signing.SECRETS["AIRCALL_WEBHOOK_TOKEN"],), digest_key=b"key"),
    "hubspot": Secrets((signing.SECRETS["HUBSPOT_CLIENT_SECRET"],), schemes=frozenset({"v1", "v2"})),
    "retell": Secrets((signing.SECRETS["RETELL_API_KEY"],)),
    "telnyx": Secrets((signing.SECRETS["TELNYX_PUBLIC_KEY"],)),
    "sendgrid": Secrets((signing.SECRETS["SENDGRID_PUBLIC_KEY"],)),
    "google_calendar": Secrets((signing.SECRETS["GOOGLE_CALENDAR_CHANNEL_TOKEN"],), digest_key=b"key"),
    "standardwebhooks": Secrets((signing.STANDARD, "whpk_x2QIDsIHu2agCyaO8xU7yZsIdilqWMqYHyelKCToRsg=")),
}

_TOKEN = re.compile(rb'"token"\s*:\s*"[^"]*"')


def signed(name: str, request: Request, source: str | None = None) -> Request:
    """The request, as the provider would have signed it at `NOW`; to a source of its own name where none is given."""
    # The signed URL is the public one, and there is no other signature: those are for the unsigned. Google's headers are
    # the payload.
    others = {"host", *(() if name == "google_calendar" else PROVIDERS[name].kept_headers)}
    headers = {header: value for header, value in request.headers.items() if header not in others}
    return _SIGNERS[name](Request("POST", f"/webhooks/{source or name}", headers, request.body), request)


def _by_body(sign: Callable[[bytes], dict[str, str]]) -> Callable[[Request, Request], Request]:
    return lambda plain, _: plain.with_headers(sign(plain.body))


def _twilio(plain: Request, request: Request) -> Request:
    """Forms by POST, parameters by GET, and JSON whose digest is in the URL."""
    content_type = request.headers.get("content-type", "")
    if request.method == "GET":
        return _twilio_url(replace(plain, method="GET", target=request.target, body=b""), content_type)
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded" or not content_type:
        sign = signing.twilio(PUBLIC_URL + request.target, plain.body)
        return replace(plain, target=request.target).with_headers(sign)
    target = f"{plain.target}?bodySHA256={sha256(plain.body).hexdigest()}"
    return _twilio_url(replace(plain, target=target), content_type)


def _twilio_url(request: Request, content_type: str) -> Request:
    sign = signing.twilio_json(PUBLIC_URL + request.target)
    return request.with_headers({**sign, "Content-Type": content_type})


def _aircall(plain: Request, _: Request) -> Request:
    """The token takes the place of the one that is there, or becomes the object's first field; no other body is signed."""
    token = b'"token":"%s"' % signing_aircall.TOKEN.encode()
    body, count = _TOKEN.subn(token, plain.body, count=1)
    if not count and body[:1] == b"{":
        body = b"{" + token + (b"" if body[1:].strip() == b"}" else b",") + body[1:]
    return replace(plain, body=body)


def _standard(plain: Request, request: Request) -> Request:
    message_id = request.headers.get("webhook-id") or "msg_1"
    return plain.with_headers(signing.standard(message_id, plain.body, NOW))


_SIGNERS: dict[str, Callable[[Request, Request], Request]] = {
    "stripe": _by_body(lambda body: signing.stripe(body, NOW)),
    "whatsapp": _by_body(signing.whatsapp),
    "twilio": _twilio,
    "aircall": _aircall,
    "hubspot": lambda plain, _: plain.with_headers(signing_hubspot.hubspot(PUBLIC_URL + plain.target, plain.body, NOW)),
    "retell": _by_body(lambda body: signing_retell.retell(body, NOW)),
    "telnyx": _by_body(lambda body: signing_telnyx.telnyx(body, NOW)),
    "sendgrid": _by_body(lambda body: signing_sendgrid.sendgrid(body, NOW)),
    "google_calendar": lambda plain, _: plain.with_headers(
        {"x-goog-channel-token": signing_google_calendar.GOOGLE_CALENDAR}
    ),
    "standardwebhooks": _standard,
}
