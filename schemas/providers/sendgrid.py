"""SendGrid's Event Webhook: ECDSA (P-256, SHA-256) over the timestamp and the raw body, base64 of DER.

Bodies end in CRLF, and that is signed too. The source holds only SendGrid's public key.
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
"""

import base64
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from schemas.envelope import Delivery, Identity
from schemas.errors import Misconfigured, RejectedDelivery
from schemas.providers.base import (
    TOLERANCE_SECONDS,
    Payload,
    Provider,
    Secrets,
    Signature,
    batch_record_id,
    clean_type,
    digest_of,
    event_id,
    item_id,
    parse_json,
    parse_timestamp,
    reject_mismatch,
    require_header,
)
from schemas.providers.batches import is_other, listed, other_identity
from schemas.providers.models import Model, require_object

SIGNATURE_HEADER: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER: Final = "x-twilio-email-event-webhook-timestamp"

RETRY_SECONDS: Final = 24 * 3600
"""How long SendGrid retries (https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/troubleshooting)."""

_PEM: Final = "-----BEGIN"
_ALGORITHM: Final = ECDSA(SHA256())


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """Under any of the keys; from 24 h and 300 s old to 300 s ahead. A signature needs both headers.

    SendGrid's SDK checks no age at all. We do, because nothing separates the time from the body: digits cut off the
    time and put before the body keep the signature, and only leave a time long past. The window is as long as SendGrid
    retries, because no page says that a retry is signed afresh: 300 s could refuse an event after an outage. Within
    it the dedupe window, which is longer, answers replays.
    """
    signature = require_header(delivery, SIGNATURE_HEADER)
    timestamp_text = require_header(delivery, TIMESTAMP_HEADER)
    timestamp = parse_timestamp(timestamp_text)
    if timestamp is None:
        raise reject_mismatch()
    signed = timestamp_text.encode() + delivery.body
    for index, secret in enumerate(secrets.values):
        if _verifies(_public_key(secret), signed, signature):
            if not now - RETRY_SECONDS - TOLERANCE_SECONDS <= timestamp <= now + TOLERANCE_SECONDS:
                raise RejectedDelivery("timestamp_outside_tolerance", signed_at=timestamp)
            return Signature(index)
    raise reject_mismatch()


def _verifies(key: EllipticCurvePublicKey, signed: bytes, signature: str) -> bool:
    """Nothing here is secret, so the time that it takes tells nothing."""
    try:
        key.verify(base64.b64decode(signature, validate=True), signed, _ALGORITHM)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _public_key(secret: str) -> EllipticCurvePublicKey:
    try:
        if secret.startswith(_PEM):
            key = load_pem_public_key(secret.encode())
        else:
            key = load_der_public_key(base64.b64decode(secret, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Misconfigured("expected a P-256 public key, base64 or PEM (it looks like MFkwEwYHKoZIzj0CAQYI…)")
    return key


def check_secret(secret: str) -> None:
    _public_key(secret)


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    """`secret` is the private key, as PEM or base64 of PKCS#8. Raises `Misconfigured` for the source's public one."""
    signature = _private_key(secret).sign(b"%d" % now + body, _ALGORITHM)
    return {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": str(now),
        "Content-Type": "application/json",
    }


def _private_key(secret: str) -> EllipticCurvePrivateKey:
    try:
        if secret.startswith(_PEM):
            key = load_pem_private_key(secret.encode(), password=None)
        else:
            key = load_der_private_key(base64.b64decode(secret, validate=True), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise Misconfigured("expected the P-256 private key of the pair, PEM or base64: a public key can not sign")
    return key


def events(payload: Payload) -> list[Any]:
    """SendGrid posts a list, also for one event."""
    return listed(payload, "event")


def is_foreign(payload: Payload) -> bool:
    """True for a payload that is not the Event Webhook's."""
    return is_other(payload, "event")


def event_name(event: dict[str, Any]) -> str:
    """`sg_event_id`, which old and some account events lack; one that names no message either is what it says."""
    event = require_object(event, "an event")
    unique, message_id = event.get("sg_event_id"), event.get("sg_message_id")
    kind, timestamp = event.get("event"), event.get("timestamp")
    if isinstance(unique, str) and unique:
        return event_id(unique)
    if isinstance(message_id, str) and message_id and isinstance(kind, str) and isinstance(timestamp, int | str):
        return event_id(message_id, kind, str(timestamp))
    return event_id(clean_type(kind), digest_of(event).hex())


def identify(payload: Payload, signed_id: str | None) -> Identity:
    if is_foreign(payload):
        return other_identity("sendgrid", payload)
    ids = {item_id(event_name, event) for event in events(payload)}
    # A batch has no one time: ce_time stays away.
    return Identity(batch_record_id(ids), "sendgrid.batch", None, digest_of(payload))


PROVIDER: Final = Provider(
    name="sendgrid",
    secret_variable="SENDGRID_PUBLIC_KEY",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(SIGNATURE_HEADER, TIMESTAMP_HEADER),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=digest_of,
    sign=sign,
    check_secret=check_secret,
    signing_variable="SENDGRID_PRIVATE_KEY",
)


class SendGridEvent(Model):
    """An event about a message. A delayed bounce has no `sg_message_id`; the sender's own arguments are beside these
    fields, so only text is certain.
    """

    email: str | None = None
    timestamp: int | str | None = None
    sg_message_id: str | None = None
    sg_machine_open: bool | None = None
    type: str | None = None
    status: str | None = None
    reason: str | None = None

    @property
    def message_id(self) -> str | None:
        """Up to the first dot: the `X-Message-Id` that the send call answered. The rest names the machine that sent.

        One call may address several people, and then they share it: their row shows the furthest of their statuses,
        and whose it is.
        """
        return (self.sg_message_id or "").partition(".")[0] or None
