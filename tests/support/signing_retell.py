"""Retell's signature, made the way its documentation says, without a line of the product."""

import hashlib
import hmac

KEY = "key_story_retell"


def retell(body: bytes, now: int, key: str = KEY) -> dict[str, str]:
    milliseconds = str(now * 1000)
    digest = hmac.new(key.encode(), body + milliseconds.encode(), hashlib.sha256).hexdigest()
    return {"X-Retell-Signature": f"v={milliseconds},d={digest}", "Content-Type": "application/json"}
