"""Telnyx (API v2): ed25519 over `{timestamp}|{body}`, base64. The source holds only Telnyx's public key.

An event may be posted to the profile's primary and failover URL, and again on a retry: only `meta` and the signature
differ. https://developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks
"""

import base64
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)
from pydantic import Field

from schemas.envelope import Delivery, Identity
from schemas.errors import Misconfigured
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    clean_type,
    digest_of,
    event_id,
    parse_json,
    parse_timestamp,
    reject_mismatch,
    require_fresh,
    require_header,
    require_text,
    time_of_iso,
)
from schemas.providers.keys import ed25519_public_key
from schemas.providers.models import Model, Several, require_object

SIGNATURE_HEADER: Final = "telnyx-signature-ed25519"
TIMESTAMP_HEADER: Final = "telnyx-timestamp"


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """Under any of the keys; ±300 s. A signature needs both headers."""
    signature = require_header(delivery, SIGNATURE_HEADER)
    timestamp_text = require_header(delivery, TIMESTAMP_HEADER)
    timestamp = parse_timestamp(timestamp_text)
    if timestamp is None:
        raise reject_mismatch()
    signed = timestamp_text.encode() + b"|" + delivery.body
    for index, secret in enumerate(secrets.values):
        if _verifies(ed25519_public_key(secret), signed, signature):
            require_fresh(timestamp, now)
            return Signature(index)
    raise reject_mismatch()


def _verifies(key: Ed25519PublicKey, signed: bytes, signature: str) -> bool:
    """Nothing here is secret, so the time that it takes tells nothing."""
    try:
        key.verify(base64.b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_secret(secret: str) -> None:
    ed25519_public_key(secret)


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    """`secret` is the private key, as PEM or base64 of PKCS#8. Raises `Misconfigured` for the source's public one."""
    signature = _private_key(secret).sign(b"%d|" % now + body)
    return {
        "Telnyx-Signature-Ed25519": base64.b64encode(signature).decode(),
        "Telnyx-Timestamp": str(now),
        "Content-Type": "application/json",
    }


def _private_key(secret: str) -> Ed25519PrivateKey:
    try:
        if secret.startswith("-----BEGIN"):
            key = load_pem_private_key(secret.encode(), password=None)
        else:
            key = load_der_private_key(base64.b64decode(secret, validate=True), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured("expected the Ed25519 private key of the pair, PEM or base64: a public key can not sign")
    return key


def fingerprint(payload: Payload) -> bytes:
    """Without `meta`, which counts attempts and names the URL: a retry and a failover are the same event."""
    return digest_of({name: value for name, value in payload.items() if name != "meta"})


def event_data(payload: Payload) -> dict[str, Any]:
    return require_object(require_object(payload, "the body").get("data"), "data")


def event_type(payload: Payload) -> str:
    return require_text(event_data(payload).get("event_type"), "data.event_type")


def identify(payload: Payload, signed_id: str | None) -> Identity:
    data = event_data(payload)
    return Identity(
        record_id=event_id(require_text(data.get("id"), "data.id")),
        type="telnyx." + clean_type(data.get("event_type")),
        occurred_at=time_of_iso(data.get("occurred_at")),
        fingerprint=fingerprint(payload),
    )


PROVIDER: Final = Provider(
    name="telnyx",
    secret_variable="TELNYX_PUBLIC_KEY",  # noqa: S106 - the variable's name
    # Voice applications can be set to GET, but nothing says how such a webhook is signed.
    methods=frozenset({"POST"}),
    kept_headers=(SIGNATURE_HEADER, TIMESTAMP_HEADER),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=fingerprint,
    sign=sign,
    event_type=event_type,
    check_secret=check_secret,
    signing_variable="TELNYX_PRIVATE_KEY",
)


class Party(Model):
    """A number, a short code, or for a sender also a name. RCS has an agent in the place of our number."""

    phone_number: str | None = None
    agent_id: str | None = None
    status: str | None = None


class Media(Model):
    content_type: str | None = None


class MessageError(Model):
    code: str | int | None = None
    title: str | None = None
    detail: str | None = None


class TelnyxMessage(Model):
    """`payload` of `message.*`: the whole message each time, as of then. Several recipients make a group MMS."""

    id: str = Field(min_length=1)
    type: str | None = None
    sender: Party = Field(default=Party(), alias="from")
    to: Several[Party] = Field(min_length=1)
    text: str | None = None
    body: Any = None
    """What RCS and WhatsApp have in the place of `text`."""
    media: Several[Media] | None = None
    errors: Several[MessageError] | None = None
    received_at: str | None = None
    sent_at: str | None = None
    completed_at: str | None = None


class RecordingUrls(Model):
    mp3: str | None = None
    wav: str | None = None


class TelnyxCall(Model):
    """`payload` of `call.*`: one leg. `from` and `to` are numbers or SIP addresses; only `call.initiated` has a
    `direction`, only `call.hangup` a `hangup_cause`, only `call.recording.saved` URLs.
    """

    call_leg_id: str = Field(min_length=1)
    direction: str | None = None
    caller: str | None = Field(default=None, alias="from")
    callee: str | None = Field(default=None, alias="to")
    start_time: str | None = None
    hangup_cause: str | None = None
    recording_urls: RecordingUrls | None = None
    public_recording_urls: RecordingUrls | None = None
