"""HubSpot's signature, made the way its documentation says, without a line of the product."""

import base64
import hashlib
import hmac

HUBSPOT = "story-hubspot-client-secret"


def hubspot(url: str, body: bytes, now: int, secret: str = HUBSPOT) -> dict[str, str]:
    """v3, and beside it the v1 hash that HubSpot sends along. The story's URL holds nothing to decode."""
    milliseconds = str(now * 1000).encode()
    digest = hmac.new(secret.encode(), b"POST" + url.encode() + body + milliseconds, hashlib.sha256).digest()
    return {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": milliseconds.decode(),
        "X-HubSpot-Signature": hashlib.sha256(secret.encode() + body).hexdigest(),
        "X-HubSpot-Signature-Version": "v1",
        "Content-Type": "application/json",
    }
