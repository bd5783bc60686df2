"""Telnyx's signatures by its documentation: ed25519 over `{timestamp}|{body}`."""

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"story telnyx").digest())
TELNYX = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
"""What the source holds: the public key as Mission Control shows it."""


def telnyx(body: bytes, now: int, key: Ed25519PrivateKey = KEY) -> dict[str, str]:
    return {
        "telnyx-signature-ed25519": base64.b64encode(key.sign(f"{now}|".encode() + body)).decode(),
        "telnyx-timestamp": str(now),
        "Content-Type": "application/json",
    }
