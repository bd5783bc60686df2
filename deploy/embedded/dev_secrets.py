"""Secrets for development: a provider without one gets a random one, so that samples and `redrive send` work."""

import base64
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def new_key() -> str:
    return secrets.token_hex(16)


def _telnyx() -> dict[str, str]:
    private = Ed25519PrivateKey.generate()
    encoded = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {
        "TELNYX_PUBLIC_KEY": base64.b64encode(private.public_key().public_bytes_raw()).decode(),
        "TELNYX_PRIVATE_KEY": base64.b64encode(encoded).decode(),
    }


def _sendgrid() -> dict[str, str]:
    private = generate_private_key(SECP256R1())
    encoded = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "SENDGRID_PUBLIC_KEY": base64.b64encode(public).decode(),
        "SENDGRID_PRIVATE_KEY": base64.b64encode(encoded).decode(),
    }


_MAKERS: Final[tuple[Callable[[], dict[str, str]], ...]] = (
    lambda: {"STRIPE_WEBHOOK_SECRET": f"whsec_{new_key()}"},
    lambda: {"WHATSAPP_APP_SECRET": new_key()},
    lambda: {"WHATSAPP_VERIFY_TOKEN": secrets.token_hex(8)},
    lambda: {"TWILIO_AUTH_TOKEN": new_key()},
    lambda: {"AIRCALL_WEBHOOK_TOKEN": new_key()},
    lambda: {"HUBSPOT_CLIENT_SECRET": new_key()},
    lambda: {"RETELL_API_KEY": f"key_{secrets.token_hex(14)}"},
    _telnyx,
    lambda: {"STANDARD_WEBHOOKS_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()},
    _sendgrid,
    lambda: {"GOOGLE_CALENDAR_CHANNEL_TOKEN": new_key()},
    lambda: {"TOKEN_DIGEST_KEY": secrets.token_hex(32)},
)


def development_secrets(given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Secrets that the user did not set: those of an earlier start (`known`), else new ones. Key pairs stay pairs."""
    found: dict[str, str] = {}
    for make in _MAKERS:
        made = make()
        if any(name in given for name in made):
            continue
        is_known = all(name in known for name in made)
        found |= {name: known[name] for name in made} if is_known else made
    return found
