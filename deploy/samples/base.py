"""A sample, and what its ids are made of."""

import secrets
from dataclasses import dataclass
from typing import Final

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Sample:
    """A body to sign and post to `/webhooks/{source}{path}`."""

    body: bytes
    content_type: str
    path: str = ""


def token(length: int = 14) -> str:
    return secrets.token_hex(length)[:length]
