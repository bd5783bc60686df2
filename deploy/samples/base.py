"""A sample, and what its ids are made of."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Sample:
    """A body to sign and post to `/webhooks/{source}{path}`, with the headers that say what the body doesn't."""

    body: bytes
    content_type: str
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def token(length: int = 14) -> str:
    return secrets.token_hex(length)[:length]
