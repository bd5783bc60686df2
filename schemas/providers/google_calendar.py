"""Google Calendar push notifications: a token that we chose for the channel, in a header; the body is empty.

The token is the credential itself and is masked before anything is kept. A notification says that something changed,
not what: whoever needs that asks Google for the events since the last time.
https://developers.google.com/workspace/calendar/api/guides/push
"""

from typing import Final

from schemas.envelope import Delivery, Identity, Request
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    clean_type,
    digest_of,
    event_id,
    match_token,
    reject_mismatch,
    require_header,
    require_text,
)

TOKEN_HEADER: Final = "x-goog-channel-token"  # noqa: S105 - a header's name
CHANNEL: Final = "x-goog-channel-id"
STATE: Final = "x-goog-resource-state"
NUMBER: Final = "x-goog-message-number"
STATES: Final = frozenset({"sync", "exists", "not_exists"})
MASK: Final = "***"

_PAYLOAD_HEADERS: Final = (
    CHANNEL,
    "x-goog-channel-expiration",
    "x-goog-resource-id",
    "x-goog-resource-uri",
    STATE,
    NUMBER,
)


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """Nothing is signed and there is no time: the token says who sends, dedupe protects against replays."""
    held = match_token(require_header(delivery, TOKEN_HEADER), delivery, secrets)
    if secrets.channel_ids and delivery.headers.get(CHANNEL) not in secrets.channel_ids:
        raise reject_mismatch()
    if delivery.headers.get(STATE) not in STATES:
        raise reject_mismatch()
    return held


def mask_token(delivery: Delivery) -> tuple[Delivery, str]:
    token = delivery.headers.get(TOKEN_HEADER)
    if not token:
        return delivery, ""
    # The first of repeated headers counts, as it did for `verify`.
    headers: dict[str, str] = {TOKEN_HEADER: MASK}
    for name, value in delivery.headers.items():
        headers.setdefault(name.lower(), value)
    return delivery._replace(headers=headers), token


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    """The other headers are the sample's own: they are what a notification says."""
    return {"X-Goog-Channel-Token": secret}


def parse(request: Request) -> Payload:
    """The headers are the payload, without the token, which is not content."""
    values = {name: request.header(name) for name in _PAYLOAD_HEADERS}
    return {name: value for name, value in values.items() if value is not None}


def notification_id(payload: Payload) -> str:
    """Message numbers grow within their channel, with gaps."""
    return event_id(require_text(payload.get(CHANNEL), CHANNEL), require_text(payload.get(NUMBER), NUMBER))


def notification_type(payload: Payload) -> str:
    return "google_calendar." + clean_type(payload.get(STATE))


def identify(payload: Payload, signed_id: str | None) -> Identity:
    return Identity(notification_id(payload), notification_type(payload), None, digest_of(payload))


PROVIDER: Final = Provider(
    name="google_calendar",
    secret_variable="GOOGLE_CALENDAR_CHANNEL_TOKEN",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(TOKEN_HEADER, *_PAYLOAD_HEADERS),
    verify=verify,
    parse=parse,
    identify=identify,
    fingerprint=digest_of,
    sign=sign,
    has_chosen_secret=True,
    mask_token=mask_token,
)
