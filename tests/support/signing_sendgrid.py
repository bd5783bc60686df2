"""SendGrid's signatures by its documentation: ECDSA (P-256, SHA-256) over the timestamp and the body, DER."""

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"story sendgrid").digest()), ec.SECP256R1())
SENDGRID = base64.b64encode(
    KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
).decode()
"""What the source holds: the verification key as SendGrid's settings show it."""


def sendgrid(body: bytes, now: int, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
    signature = key.sign(str(now).encode() + body, ec.ECDSA(SHA256()))
    return {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": str(now),
        "Content-Type": "application/json",
    }
