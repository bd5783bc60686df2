"""Aircall: no signature, but the token that creating the webhook returned, in clear inside every body.

The token is the credential itself: who reads one body can forge the next. So the log keeps the body with the token
masked, and a digest of it (invariant 2). Nothing protects the rest of the body, and there is no signed time: dedupe is
the protection against replays. https://developer.aircall.io/tutorials/webhooks-guide
"""

import json
import re
from typing import Any, Final

from pydantic import Field

from schemas.envelope import Delivery, Identity
from schemas.errors import RejectedDelivery
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    Unparsable,
    clean_type,
    digest_of,
    event_id,
    match_token,
    parse_json,
    reject_mismatch,
    require_text,
    time_of_seconds,
)
from schemas.providers.models import Model, require_object

MASK: Final = "***"
_MASKED: Final = b'"***"'
PHASES: Final = frozenset({"call.created", "call.answered", "call.hungup", "call.ended"})
"""They come once for a call. The others may come again: rung on one agent after another, tagged, commented."""

_OPAQUE: Final = re.compile(r"(?![0-9eE-]+\Z)[A-Za-z0-9_-]{16,}")
"""A token of this form (Aircall's are 32 hex digits) can be masked as text anywhere: it is neither a word nor a
number.
"""

_TOKEN: Final = re.compile(
    rb'("(?:t|\\u0074)(?:o|\\u006[fF])(?:k|\\u006[bB])(?:e|\\u0065)(?:n|\\u006[eE])"\s*:\s*)'
    rb'("[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z))',
    re.DOTALL,
)
"""A key `token` in any spelling, at any depth of what need not be JSON, and its text, which the body's end may cut."""


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """The token is in the body, which has to be read first. The digest replaces a masked token."""
    return match_token("" if delivery.token_digest else read_token(delivery.body), delivery, secrets)


def read_token(body: bytes) -> str:
    """Raises `RejectedDelivery`: `signature_missing`, or `signature_mismatch` for what can't be a token.

    By the standard library's parser, because it shows a key that comes twice; others silently keep one of the two, and
    not all of them the same.
    """
    try:
        top = json.loads(body.decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise RejectedDelivery("signature_missing") from error
    # JSON has no tuples: this one is the object.
    tokens = [value for name, value in top if name == "token"] if isinstance(top, tuple) else []
    if len(tokens) > 1:
        raise reject_mismatch()
    if not tokens or tokens[0] is None or tokens[0] == "":
        raise RejectedDelivery("signature_missing")
    if not isinstance(tokens[0], str) or _has_surrogates(tokens[0]):
        raise reject_mismatch()
    return tokens[0]


def _has_surrogates(text: str) -> bool:
    """Half a character: JSON can spell it, and UTF-8 cannot."""
    return any("\ud800" <= c <= "\udfff" for c in text)


def mask_token(delivery: Delivery) -> tuple[Delivery, str]:
    """Replace the token's value by `***`, however it is spelled; every other byte stays. A copy of the token's text in
    a comment, say, is a credential, too, and is masked. Never raises.

    Without a readable token the second is "", and every text under a key `token` is masked: in a body that was cut off,
    or that has the key twice, any of them may be the credential.
    """
    try:
        token = read_token(delivery.body)
    except RejectedDelivery:
        token = ""

    def masked(found: re.Match[bytes]) -> bytes:
        key, text = found.groups()
        is_token = json.loads(text.decode()) == token if token else text != b'""'
        return key + _MASKED if is_token else found[0]

    body = _TOKEN.sub(masked, delivery.body)
    if _OPAQUE.fullmatch(token):
        body = body.replace(token.encode(), MASK.encode())
    return delivery._replace(body=body), token


def present_token(body: bytes, token: str) -> bytes:
    """A body of a sample, or of the log, with the token in the place of its mask."""
    presented = json.dumps(token).encode()
    return _TOKEN.sub(lambda found: found[1] + (presented if found[2] == _MASKED else found[2]), body)


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    """No header vouches for anything: see `present_token`."""
    return {"Content-Type": "application/json"}


def event_type(payload: Payload) -> str:
    return require_text(require_object(payload, "the body").get("event"), "event")


def aircall_event_id(payload: Payload) -> str:
    kind, about = event_type(payload), _id_text(require_object(payload.get("data"), "data").get("id"), "data.id")
    if kind in PHASES:
        return event_id(kind, about)
    return event_id(kind, about, _id_text(payload.get("timestamp"), "timestamp"))


def _id_text(value: Any, what: str) -> str:
    """Calls are numbered, messages have ids of text."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise Unparsable(f"{what}: {'missing' if value in (None, '') else 'neither a whole number nor text'}")
    return str(value)


def fingerprint(payload: Payload) -> bytes:
    """Without `token`, which changes when the webhook is created again."""
    return digest_of({name: value for name, value in payload.items() if name != "token"})


def identify(payload: Payload, signed_id: str | None) -> Identity:
    return Identity(
        record_id=aircall_event_id(payload),
        type="aircall." + clean_type(event_type(payload)),
        occurred_at=time_of_seconds(payload.get("timestamp")),
        fingerprint=fingerprint(payload),
    )


PROVIDER: Final = Provider(
    name="aircall",
    secret_variable="AIRCALL_WEBHOOK_TOKEN",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=fingerprint,
    sign=sign,
    event_type=event_type,
    mask_token=mask_token,
    present_token=present_token,
    # Calls are a few KB. The body is read and searched before anything is verified, so a large one costs us dearly.
    max_body_bytes=256 * 1024,
)


class AircallNumber(Model):
    digits: str | None = None


class AircallCall(Model):
    """`data` of a `call.*` event. Times are seconds; `duration` counts the ringing; `digits` and `raw_digits` are as
    people write them ("+33 1 80 00 00 00").
    """

    id: int | str
    direction: str | None = None
    started_at: int | None = None
    answered_at: int | None = None
    ended_at: int | None = None
    duration: int | None = Field(default=None, ge=0, lt=10**9)
    missed_call_reason: str | None = None
    hangup_cause: int | str | None = None
    recording: str | None = None
    voicemail: str | None = None
    raw_digits: str | None = None
    number: AircallNumber | None = None
