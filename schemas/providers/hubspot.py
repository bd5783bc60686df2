"""HubSpot: HMAC-SHA256 of method, URI, body and milliseconds (v3), base64, keyed with the app's client secret.

Its older schemes are plain hashes without a time: v1 covers the body alone, v2 also method and URI. They count only
where the source allows them.
https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
"""

import base64
import hashlib
import hmac
import re
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Final
from urllib.parse import unquote

import orjson
from pydantic import BeforeValidator, Field

from schemas.envelope import Delivery, Identity
from schemas.errors import RejectedDelivery
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    Unparsable,
    batch_record_id,
    digest_of,
    event_id,
    hmac_sha256,
    item_id,
    parse_json,
    parse_timestamp,
    reject_mismatch,
    require_fresh,
    require_header,
    require_text,
    time_of_milliseconds,
)
from schemas.providers.batches import is_other, listed, other_identity
from schemas.providers.models import Model, Several, require_object

HEADER: Final = "x-hubspot-signature-v3"
TIMESTAMP_HEADER: Final = "x-hubspot-request-timestamp"
HASH_HEADER: Final = "x-hubspot-signature"
HASH_VERSION_HEADER: Final = "x-hubspot-signature-version"

_DECODED: Final = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.ASCII | re.IGNORECASE)
"""The escapes that HubSpot decodes in the URI before it signs: `: / ? @ ! $ ' ( ) * , ;`. All others stay."""

_EVENT_ID_DIGITS: Final = 20


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """A v3 signature decides alone: HubSpot sends a v1 hash beside it, which must not make up for a wrong one."""
    if delivery.headers.get(HEADER) is None:
        return _verify_hash(delivery, secrets)
    signature = require_header(delivery, HEADER).encode("utf-8", "replace")
    timestamp_text = require_header(delivery, TIMESTAMP_HEADER)
    timestamp_ms = parse_timestamp(timestamp_text)
    if timestamp_ms is None:
        raise reject_mismatch()
    target = (delivery.method + _signed_uri(delivery.url)).encode("utf-8", "surrogateescape")
    for index, secret in enumerate(secrets.values):
        expected = hmac_sha256(secret.encode(), target, delivery.body, timestamp_text.encode())
        if hmac.compare_digest(base64.b64encode(expected), signature):
            require_fresh(timestamp_ms / 1000, now)
            return Signature(index)
    raise reject_mismatch()


def _signed_uri(url: str) -> str:
    """Decoded once and in one pass, so that `%253A` stays what it is."""
    return _DECODED.sub(lambda escape: unquote(escape[0]), url)


def _verify_hash(delivery: Delivery, secrets: Secrets) -> Signature:
    version = delivery.headers.get(HASH_VERSION_HEADER)
    allowed = {scheme.removeprefix("hubspot-") for scheme in secrets.schemes}
    if version not in ("v1", "v2") or version not in allowed:
        raise RejectedDelivery("signature_missing")
    signature = require_header(delivery, HASH_HEADER).encode("utf-8", "replace")
    # v2 covers the URI as it was called, unlike v3.
    target = (delivery.method + delivery.url).encode("utf-8", "surrogateescape") if version == "v2" else b""
    for index, secret in enumerate(secrets.values):
        expected = hashlib.sha256(secret.encode() + target + delivery.body).hexdigest().encode()
        if hmac.compare_digest(expected, signature):
            return Signature(index)
    raise reject_mismatch()


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    timestamp = str(now * 1000)
    digest = hmac_sha256(secret.encode(), f"POST{_signed_uri(url)}".encode(), body, timestamp.encode())
    return {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": timestamp,
        "Content-Type": "application/json",
    }


_MARKS: Final = ("subscriptionType", "eventType")
"""The fields that name an event's type."""


def events(payload: Payload) -> list[Any]:
    """A delivery is a list of up to a hundred events, also when there is only one."""
    return listed(payload, *_MARKS)


def is_foreign(payload: Payload) -> bool:
    """True for the request of a workflow action or a card, which may have the same address."""
    return is_other(payload, *_MARKS)


def event_type(event: dict[str, Any]) -> str:
    """`contact.creation`: under `subscriptionType` on the wire, and under `eventType` in parts of the documentation."""
    return require_text(event.get("subscriptionType") or event.get("eventType"), "subscriptionType")


def batched_event_id(event: dict[str, Any]) -> str:
    """`eventId` is not unique: what happened, to what, and when tell its namesakes apart. `attemptNumber` counts the
    retries of one event. A part that an event does not have is empty, so that the number of parts is constant.
    """
    number = require_text(_text(require_object(event, "an event").get("eventId")), "eventId")
    return event_id(
        _text(event.get("portalId")),
        _text(event.get("subscriptionId")),
        _object(event),
        number,
        _text(event.get("occurredAt")),
        _text(event.get("propertyName")),
    )


def _object(event: dict[str, Any]) -> str:
    """Associations are between two objects, and have no `objectId`."""
    found = _text(event.get("objectId"))
    start, end = _text(event.get("fromObjectId")), _text(event.get("toObjectId"))
    return f"{start}>{end}" if not found and (start or end) else found


def _text(value: Any) -> str:
    """Ids and times are whole numbers, and might be text; nothing else can be compared as one."""
    kind = type(value)
    if kind is int or kind is str:
        return str(value)
    if value is None:
        return ""
    raise Unparsable("an id or a time is neither a whole number nor text")


def fingerprint(payload: Payload) -> bytes:
    """Without `attemptNumber`, which grows with every retry."""
    if is_foreign(payload):
        return digest_of(payload)
    return digest_of([_lasting(event) for event in events(payload)])


def _lasting(event: Any) -> Any:
    return {k: v for k, v in event.items() if k != "attemptNumber"} if isinstance(event, dict) else event


def identify(payload: Payload, signed_id: str | None) -> Identity:
    if is_foreign(payload):
        return other_identity("hubspot", payload)
    # A retry of an event that has no id is still the same event.
    ids = {item_id(batched_event_id, _lasting(event)) for event in events(payload)}
    return Identity(batch_record_id(ids), "hubspot.batch", None, fingerprint(payload))


PROVIDER: Final = Provider(
    name="hubspot",
    secret_variable="HUBSPOT_CLIENT_SECRET",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(HEADER, TIMESTAMP_HEADER, HASH_HEADER, HASH_VERSION_HEADER),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=fingerprint,
    sign=sign,
    schemes=frozenset({"v1", "v2", "v3"}),
    signs_url=True,
    outdated_headers=frozenset({HASH_HEADER, HASH_VERSION_HEADER}),
)


def _value(value: Any) -> str | None:
    """HubSpot sends text, null for a cleared property; anything else keeps its JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


Id = Annotated[str, Field(min_length=1), BeforeValidator(_text)]


class HubSpotEvent(Model):
    """The fields of every event that changes an object. `occurredAt` is milliseconds on the wire."""

    portalId: Id
    eventId: Id
    occurredAt: Annotated[datetime, BeforeValidator(time_of_milliseconds)]

    @cached_property
    def ordered_id(self) -> str:
        """`eventId` as text whose order is the order of the numbers."""
        is_number = self.eventId.isascii() and self.eventId.isdigit()
        return self.eventId.zfill(_EVENT_ID_DIGITS) if is_number else event_id(self.eventId)


class ObjectEvent(HubSpotEvent):
    objectId: Id


class PropertyChange(ObjectEvent):
    propertyName: str = Field(min_length=1)
    propertyValue: Annotated[str | None, BeforeValidator(_value)] = None


class Merge(HubSpotEvent):
    """Some merges make a new object, others keep the primary one; the merged ones go either way."""

    primaryObjectId: Id
    mergedObjectIds: Several[Id]
    newObjectId: Id | None = None
