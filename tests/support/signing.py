"""Signatures made the way the providers' documentation says, without a line of the product: the story's own hand."""

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl

from tests.support import (
    signing_aircall,
    signing_google_calendar,
    signing_hubspot,
    signing_retell,
    signing_sendgrid,
    signing_telnyx,
)

STRIPE = "whsec_story_stripe"
WHATSAPP = "story-app-secret"
TWILIO = "story-twilio-token"
STANDARD = "whsec_" + base64.b64encode(b"story standard webhooks!").decode()

PROVIDERS = (
    "stripe",
    "whatsapp",
    "twilio",
    "aircall",
    "hubspot",
    "retell",
    "telnyx",
    "standardwebhooks",
    "sendgrid",
    "google_calendar",
)
SECRETS = {
    "STRIPE_WEBHOOK_SECRET": STRIPE,
    "WHATSAPP_APP_SECRET": WHATSAPP,
    "WHATSAPP_VERIFY_TOKEN": "story-verify-token",
    "TWILIO_AUTH_TOKEN": TWILIO,
    "AIRCALL_WEBHOOK_TOKEN": signing_aircall.TOKEN,
    "HUBSPOT_CLIENT_SECRET": signing_hubspot.HUBSPOT,
    "RETELL_API_KEY": signing_retell.KEY,
    "TELNYX_PUBLIC_KEY": signing_telnyx.TELNYX,
    "STANDARD_WEBHOOKS_SECRET": STANDARD,
    "SENDGRID_PUBLIC_KEY": signing_sendgrid.SENDGRID,
    "GOOGLE_CALENDAR_CHANNEL_TOKEN": signing_google_calendar.GOOGLE_CALENDAR,
    "TOKEN_DIGEST_KEY": "story digest key",
}


def stripe(body: bytes, now: int, secret: str = STRIPE) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={now},v1={digest}", "Content-Type": "application/json; charset=utf-8"}


def whatsapp(body: bytes, secret: str = WHATSAPP) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def twilio(url: str, body: bytes, secret: str = TWILIO) -> dict[str, str]:
    # Latin-1 keeps every byte of what is no UTF-8; of a parameter that comes twice with one value, one is signed.
    pairs = set(parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1"))
    parameters = "".join(name + value for name, value in sorted(pairs)).encode("latin-1")
    digest = hmac.new(secret.encode(), url.encode("utf-8", "surrogateescape") + parameters, hashlib.sha1).digest()
    return {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
    }


def twilio_json(url: str, secret: str = TWILIO) -> dict[str, str]:
    """Of JSON only the URL is signed, which carries the body's digest."""
    digest = hmac.new(secret.encode(), url.encode("utf-8", "surrogateescape"), hashlib.sha1).digest()
    return {"X-Twilio-Signature": base64.b64encode(digest).decode(), "Content-Type": "application/json"}


def standard(message_id: str, body: bytes, now: int, secret: str = STANDARD) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{now}.".encode("utf-8", "surrogateescape") + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "Content-Type": "application/json",
    }
