"""Signatures made the way the providers' documentation says, without a line of the product: the story's own hand."""

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl

STRIPE = "whsec_story_stripe"
WHATSAPP = "story-app-secret"
TWILIO = "story-twilio-token"
STANDARD = "whsec_" + base64.b64encode(b"story standard webhooks!").decode()

PROVIDERS = ("stripe", "whatsapp", "twilio", "standardwebhooks")
SECRETS = {
    "STRIPE_WEBHOOK_SECRET": STRIPE,
    "WHATSAPP_APP_SECRET": WHATSAPP,
    "WHATSAPP_VERIFY_TOKEN": "story-verify-token",
    "TWILIO_AUTH_TOKEN": TWILIO,
    "STANDARD_WEBHOOKS_SECRET": STANDARD,
}


def stripe(body: bytes, now: int, secret: str = STRIPE) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={now},v1={digest}", "Content-Type": "application/json; charset=utf-8"}


def whatsapp(body: bytes, secret: str = WHATSAPP) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def twilio(url: str, body: bytes, secret: str = TWILIO) -> dict[str, str]:
    signed = url + "".join(k + v for k, v in sorted(parse_qsl(body.decode(), keep_blank_values=True)))
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha1).digest()
    return {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
    }


def standard(message_id: str, body: bytes, now: int, secret: str = STANDARD) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{now}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "Content-Type": "application/json",
    }
