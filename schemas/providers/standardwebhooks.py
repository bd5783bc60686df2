"""Standard Webhooks, also under Svix's header names: `{id}.{timestamp}.{body}`, HMAC (v1) or ed25519 (v1a), base64.

The secret is base64 behind `whsec_`, unlike Stripe's of the same prefix; `whpk_` is a public key for v1a.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from schemas.billing import MAX_CREDITS
from schemas.envelope import Delivery, Identity
from schemas.errors import Misconfigured, RejectedDelivery
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    clean_type,
    digest_of,
    event_id,
    hmac_sha256,
    parse_json,
    parse_timestamp,
    reject_mismatch,
    require_fresh,
    require_text,
    time_of_iso,
)
from schemas.providers.keys import ed25519_public_key
from schemas.providers.models import require_object

PREFIX: Final = "whsec_"
PUBLIC_PREFIX: Final = "whpk_"
KEY_BYTES: Final = range(24, 64 + 1)
_FAMILIES: Final = (("svix", "svix-v1"), ("webhook", "standard-webhooks-v1"))
_EXPECTED: Final = (
    "expected whsec_ and the base64 of 24 to 64 bytes, or whpk_ and an ed25519 public key, without the `v1,` or `v1a,`"
    " that some senders show before it"
)
_HEADERS: Final = tuple(f"{family}-{part}" for family, _ in _FAMILIES for part in ("id", "timestamp", "signature"))


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """Any signature of the space-separated list under any secret; ±300 s."""
    message_id, timestamp_text, header = _signed_headers(delivery, secrets.schemes)
    timestamp = parse_timestamp(timestamp_text)
    if timestamp is None:
        raise reject_mismatch()
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape") + delivery.body
    offered = [item.partition(",")[::2] for item in header.split(" ")]
    for index, secret in enumerate(secrets.values):
        if _matches(secret, signed, offered):
            require_fresh(timestamp, now)
            return Signature(index, signed_id=message_id)
    raise reject_mismatch()


def _signed_headers(delivery: Delivery, schemes: frozenset[str]) -> tuple[str, str, str]:
    for family, scheme in _FAMILIES:
        is_allowed = not schemes or any(allowed in (scheme, scheme + "a") for allowed in schemes)
        values = [delivery.headers.get(f"{family}-{part}") for part in ("id", "timestamp", "signature")]
        if is_allowed and values[0] and values[1] and values[2]:
            return values[0], values[1], values[2]
    raise RejectedDelivery("signature_missing")


def _matches(secret: str, signed: bytes, offered: list[tuple[str, str]]) -> bool:
    if secret.startswith(PUBLIC_PREFIX):
        key = ed25519_public_key(secret.removeprefix(PUBLIC_PREFIX))
        return any([_verifies(key, signed, value) for version, value in offered if version == "v1a"])
    expected = base64.b64encode(hmac_sha256(_key(secret), signed))
    return any(
        [
            hmac.compare_digest(expected, value.encode("utf-8", "replace"))
            for version, value in offered
            if version == "v1"
        ]
    )


def _verifies(key: Ed25519PublicKey, signed: bytes, signature: str) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _key(secret: str) -> bytes:
    """The reference libraries take a secret without its prefix, too. A value that is shorter than the specification
    allows is not a key: the `v1` that some senders show before it is a single byte of base64.
    """
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise Misconfigured(_EXPECTED) from error
    if len(key) not in KEY_BYTES:
        raise Misconfigured(_EXPECTED)
    return key


def check_secret(secret: str) -> None:
    if secret.startswith(PUBLIC_PREFIX):
        ed25519_public_key(secret.removeprefix(PUBLIC_PREFIX))
    else:
        _key(secret)


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    """Sign under an id made from the body, so that the same sample is the same event."""
    return sign_as(secret, "msg_" + digest_of(body.decode("latin-1")).hex()[:24], body, now)


def sign_as(secret: str, record_id: str, body: bytes, now: int) -> dict[str, str]:
    message_id = unquote(record_id)
    digest = hmac_sha256(_key(secret), f"{message_id}.{now}.".encode(), body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "Content-Type": "application/json",
    }


def event_type(payload: Payload) -> str:
    return require_text(require_object(payload, "the body").get("type"), "type")


def identify(payload: Payload, signed_id: str | None) -> Identity:
    """The id is a header: the one that the signature covered, which need not be the only one on the request."""
    kind = payload.get("type") if isinstance(payload, dict) else None
    time = payload.get("timestamp") if isinstance(payload, dict) else None
    return Identity(
        record_id=event_id(require_text(signed_id, "webhook-id")),
        type="standardwebhooks." + clean_type(kind),
        occurred_at=time_of_iso(time),
        fingerprint=digest_of(payload),
    )


PROVIDER: Final = Provider(
    name="standardwebhooks",
    secret_variable="STANDARD_WEBHOOKS_SECRET",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=_HEADERS,
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=digest_of,
    sign=sign,
    event_type=event_type,
    schemes=frozenset({"svix-v1", "svix-v1a", "standard-webhooks-v1", "standard-webhooks-v1a"}),
    check_secret=check_secret,
    sign_as=sign_as,
    outdated_headers=frozenset(_HEADERS),
)


class CreditsUsed(BaseModel):
    """`data` of a `credits.used` event: `source` is the source of the account that is charged."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    id: str = Field(min_length=1)
    customer: str = Field(min_length=1)
    credits: int = Field(gt=0, le=MAX_CREDITS)
    source: str = Field(min_length=1)
    reason: str | None = None
