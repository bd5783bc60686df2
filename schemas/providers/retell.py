"""Retell AI: HMAC-SHA256 of `{body}{ms}` with the API key, hex, in `v=<ms>,d=<hex>`.

There is no separator between body and time. The form is the SDK's: `retell/lib/webhook_auth.py` in retell-sdk.
https://docs.retellai.com/features/webhook-overview
"""

import hmac
import re
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from schemas.envelope import Delivery, Identity
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    clean_type,
    digest_of,
    event_id,
    hmac_sha256_hex,
    parse_json,
    parse_timestamp,
    reject_mismatch,
    require_fresh,
    require_header,
    require_text,
    time_of_milliseconds,
)
from schemas.providers.models import Model, require_object

HEADER: Final = "x-retell-signature"
TRANSCRIPT_UPDATED: Final = "transcript_updated"

_FORM: Final = re.compile(r"v=([0-9]+),d=([0-9a-f]{64})")
_TIMES: Final = {
    "call_started": "start_timestamp",
    "call_ended": "end_timestamp",
    "call_analyzed": "end_timestamp",
    "chat_started": "start_timestamp",
    "chat_ended": "end_timestamp",
    "chat_analyzed": "end_timestamp",
}
"""Events carry no time of their own: of these, a field of the call says it; the others happen at some time within."""


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """The whole header must have the one form; ±300 s, to the millisecond."""
    match = _FORM.fullmatch(require_header(delivery, HEADER))
    milliseconds = parse_timestamp(match[1]) if match else None
    if match is None or milliseconds is None:
        raise reject_mismatch()
    signed_time, signature = match[1].encode(), match[2].encode()
    for index, secret in enumerate(secrets.values):
        if hmac.compare_digest(hmac_sha256_hex(secret.encode(), delivery.body, signed_time), signature):
            require_fresh(milliseconds / 1000, now)
            return Signature(index)
    raise reject_mismatch()


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    milliseconds = now * 1000
    digest = hmac_sha256_hex(secret.encode(), body, b"%d" % milliseconds).decode()
    return {"X-Retell-Signature": f"v={milliseconds},d={digest}", "Content-Type": "application/json"}


def subject(payload: Payload) -> dict[str, Any]:
    """The call or the chat. `data` is what `call` was named before. Raises `Unparsable`."""
    return require_object(payload.get("call") or payload.get("chat") or payload.get("data"), "call")


def event_type(payload: Payload) -> str:
    return require_text(require_object(payload, "the body").get("event"), "event")


def retell_event_id(payload: Payload) -> str:
    """One event of each kind for a call; a transcript is updated many times, so there its content takes part."""
    kind, about = event_type(payload), subject(payload)
    parts = [kind, require_text(about.get("call_id") or about.get("chat_id"), "call.call_id")]
    if kind == TRANSCRIPT_UPDATED:
        parts.append(digest_of(payload).hex())
    return event_id(*parts)


def event_time(payload: Payload) -> datetime | None:
    field = _TIMES.get(payload["event"])
    return time_of_milliseconds(subject(payload).get(field)) if field else None


def identify(payload: Payload, signed_id: str | None) -> Identity:
    return Identity(
        record_id=retell_event_id(payload),
        type="retell." + clean_type(event_type(payload)),
        occurred_at=event_time(payload),
        fingerprint=digest_of(payload),
    )


PROVIDER: Final = Provider(
    name="retell",
    secret_variable="RETELL_API_KEY",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(HEADER,),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=digest_of,
    sign=sign,
    event_type=event_type,
)


class CallAnalysis(Model):
    call_summary: str | None = None
    user_sentiment: str | None = None


class RetellCall(Model):
    """A call as every event carries it whole. Times are milliseconds; a web call has no numbers and no direction."""

    call_id: str = Field(min_length=1)
    call_status: str | None = None
    direction: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    start_timestamp: int | None = None
    end_timestamp: int | None = None
    duration_ms: int | None = Field(default=None, ge=0, lt=10**12)
    disconnection_reason: str | None = None
    recording_url: str | None = None
    call_analysis: CallAnalysis | None = None
