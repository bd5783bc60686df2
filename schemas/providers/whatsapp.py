"""WhatsApp Cloud API (Meta): HMAC-SHA256 of the raw body with the app secret, hex, behind `sha256=`.

The bytes on the wire are already in the escaped form that Meta signs: hash them as they are, never re-serialise.
https://developers.facebook.com/docs/graph-api/webhooks/getting-started
"""

import hmac
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs

from pydantic import Field

from schemas.envelope import Delivery, Identity
from schemas.errors import RejectedDelivery
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    Unparsable,
    batch_record_id,
    clean_type,
    digest_of,
    event_id,
    hmac_sha256_hex,
    item_id,
    parse_json,
    reject_mismatch,
    require_header,
    require_text,
)
from schemas.providers.models import Model, require_object

HEADER: Final = "x-hub-signature-256"
PREFIX: Final = "sha256="


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """There is no signed time, so no freshness check is possible: dedupe is the protection against replays."""
    header = require_header(delivery, HEADER)
    if not header.startswith(PREFIX):
        raise reject_mismatch()
    signature = header[len(PREFIX) :].encode("utf-8", "replace")
    for index, secret in enumerate(secrets.values):
        if hmac.compare_digest(hmac_sha256_hex(secret.encode(), delivery.body), signature):
            return Signature(index)
    raise reject_mismatch()


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    digest = hmac_sha256_hex(secret.encode(), body).decode()
    return {"X-Hub-Signature-256": PREFIX + digest, "Content-Type": "application/json"}


def answer_handshake(query: str, secrets: Secrets) -> str:
    """The challenge to echo, bare. Raises `handshake_incomplete`, `verify_token_mismatch` or `misconfigured`."""
    fields = parse_qs(query, keep_blank_values=True, errors="replace")
    mode, challenge, token = (fields.get(f"hub.{name}", [""])[0] for name in ("mode", "challenge", "verify_token"))
    if mode != "subscribe" or not challenge or not token:
        raise RejectedDelivery("handshake_incomplete")
    if secrets.verify_token is None:
        raise RejectedDelivery("misconfigured")
    if not hmac.compare_digest(secrets.verify_token.encode(), token.encode("utf-8", "replace")):
        raise RejectedDelivery("verify_token_mismatch")
    return challenge


def changes(payload: Payload) -> Iterator[Any]:
    """Every change of every entry; a delivery may hold several accounts and several numbers."""
    for entry in _listed(payload, "entry"):
        found = (entry.get("changes") or ()) if isinstance(entry, dict) else entry
        yield from found if isinstance(found, list | tuple) else (found,)


OBJECT: Final = "whatsapp_business_account"


class Item(NamedTuple):
    """One event of a delivery: a message, a status, a change that is about neither, or an entry of another product."""

    kind: Literal["message", "status", "change", "entry"]
    data: Any
    around: Any
    """The change that it came in; of an entry, the delivery."""


def items(payload: Payload) -> Iterator[Item]:
    """Every event of a delivery, in its order, whatever it holds. Raises `Unparsable` where there is none.

    Other products of Meta (Messenger, Instagram) may have the same address; their entries hold no changes.
    """
    payload = require_object(payload, "the body")
    found = list(changes(payload))
    if not found:
        entries = _listed(payload, "entry") or [payload]
        if payload.get("object") in (None, OBJECT):
            raise Unparsable("entry: no change in any of them")
        for entry in entries:
            yield Item("entry", entry, payload)
    for change in found:
        value = change.get("value") if isinstance(change, dict) else None
        messages, statuses = _listed(value, "messages"), _listed(value, "statuses")
        for message in messages:
            yield Item("message", message, change)
        for status in statuses:
            yield Item("status", status, change)
        if not messages and not statuses:
            yield Item("change", change, change)


def _listed(value: Any, name: str) -> Sequence[Any]:
    """What is no list is one item, which nobody can read."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else [found] if found else ()


def item_event_id(item: Item) -> str:
    """Changes of other fields (templates, account updates) have no id: they are what they say."""
    kind, data, around = item
    if kind == "message":
        return event_id(require_text(require_object(data, "messages[]").get("id"), "messages[].id"))
    if kind == "status":
        data = require_object(data, "statuses[]")
        return event_id(
            require_text(data.get("id"), "statuses[].id"), require_text(data.get("status"), "statuses[].status")
        )
    of = around.get("object") if kind == "entry" else require_object(data, "changes[]").get("field")
    return event_id(clean_type(of), digest_of(data).hex())


def display_phone_number(item: Item) -> str | None:
    """Of the business, as the change around a message or a status has it."""
    metadata = item.around["value"].get("metadata")
    number = None if metadata is None else require_object(metadata, "metadata").get("display_phone_number")
    if number is not None and not isinstance(number, str):
        raise Unparsable("metadata.display_phone_number: not text")
    return number


def identify(payload: Payload, signed_id: str | None) -> Identity:
    ids = {item_id(item_event_id, item) for item in items(payload)}
    # A batch has no one time: ce_time stays away.
    return Identity(batch_record_id(ids), "whatsapp.batch", None, digest_of(payload))


PROVIDER: Final = Provider(
    name="whatsapp",
    secret_variable="WHATSAPP_APP_SECRET",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(HEADER,),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=digest_of,
    sign=sign,
    answer_handshake=answer_handshake,
    verify_token_variable="WHATSAPP_VERIFY_TOKEN",  # noqa: S106 - the variable's name
)


class ErrorData(Model):
    details: str | None = None


class StatusError(Model):
    code: int | str | None = None
    title: str | None = None
    message: str | None = None
    error_data: ErrorData | None = None


class WhatsAppMessage(Model):
    """An inbound message. Since 2026 a user with a username may come without a phone number: `from` may be absent."""

    id: str
    sender: str | None = Field(default=None, alias="from")
    timestamp: str | int | None = None
    type: str = "unknown"
    text: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    button: dict[str, Any] | None = None
    interactive: dict[str, Any] | None = None
    reaction: dict[str, Any] | None = None
    system: dict[str, Any] | None = None
    errors: tuple[StatusError, ...] = ()


class WhatsAppStatus(Model):
    id: str
    status: str
    timestamp: str | int | None = None
    recipient_id: str | None = None
    errors: tuple[StatusError, ...] = ()
