"""WhatsApp Cloud API (Meta): HMAC-SHA256 of the raw body with the app secret, hex, behind `sha256=`.

The bytes on the wire are already in the escaped form that Meta signs: hash them as they are, never re-serialise.
https://developers.facebook.com/docs/graph-api/webhooks/getting-started
"""

import hmac
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs

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
from schemas.providers.batches import MAX_EVENTS, bounded
from schemas.providers.models import require_object

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


def _changes_of(entry: Any) -> Sequence[Any]:
    """A delivery may hold several accounts in its entries, and several numbers in their changes."""
    return _listed(entry.get("changes")) if isinstance(entry, dict) else [entry]


ItemKind = Literal[
    "message", "status", "other_status", "echo", "history", "call", "call_status", "preference", "change", "entry"
]

OBJECT: Final = "whatsapp_business_account"

_LISTS: Final[tuple[tuple[str, ItemKind], ...]] = (
    ("messages", "message"),
    ("statuses", "status"),
    ("message_echoes", "echo"),
    ("calls", "call"),
    ("user_preferences", "preference"),
)
"""Field of a change's value -> what it lists."""

_PLACES: Final[dict[ItemKind, str]] = {
    **{kind: f"{name}[]" for name, kind in _LISTS},
    "history": "messages[]",
    "call_status": "statuses[]",
    "other_status": "statuses[]",
}
"""The place of an event in its delivery, for error messages."""


class WhatsAppItem(NamedTuple):
    """One event of a delivery; `change` is one that lists none of the others, `entry` one of another product,
    `other_status` that of neither a message nor a call: of a payment.
    """

    kind: ItemKind
    data: Any
    around: Any
    """The change that it came in; of an entry, the delivery."""
    thread: Any = None
    """The other party of the chat, for a message of the history."""


def items(payload: Payload) -> list[WhatsAppItem]:
    """Every event of a delivery, in its order, whatever it holds. Raises `Unparsable` where there is none, or too many.

    Other products of Meta (Messenger, Instagram) may have the same address; their entries hold no changes.
    """
    return bounded(_items(require_object(payload, "the body")))


def _items(payload: dict[str, Any]) -> Iterator[WhatsAppItem]:
    is_ours = payload.get("object") in (None, OBJECT)
    is_empty = True
    for entry in _listed(payload.get("entry")):
        found = _changes_of(entry)
        for change in found:
            is_empty = False
            yield from list(islice(_listed_in(change), MAX_EVENTS + 1)) or [WhatsAppItem("change", change, change)]
        if not found and not is_ours:
            is_empty = False
            yield WhatsAppItem("entry", entry, payload)
    if is_empty and is_ours:
        raise Unparsable("entry: no change in any of them")
    if is_empty:
        yield WhatsAppItem("entry", payload, payload)


def _listed_in(change: Any) -> Iterator[WhatsAppItem]:
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(value, dict):
        return
    field = change.get("field")
    for name, kind in _LISTS:
        for data in _listed(value.get(name)):
            yield WhatsAppItem(_kind_of(kind, field, data), data, change)
    for chunk in _listed(value.get("history")):
        for thread in _listed(chunk.get("threads")) if isinstance(chunk, dict) else [chunk]:
            is_read = isinstance(thread, dict)
            for data in _listed(thread.get("messages")) if is_read else [thread]:
                yield WhatsAppItem("history", data, change, thread.get("id") if is_read else None)


def _kind_of(listed_as: ItemKind, field: Any, data: Any) -> ItemKind:
    """Statuses of calls are among those of messages, and the media of the history comes as messages of its field."""
    of = data.get("type") if listed_as == "status" and isinstance(data, dict) else None
    if listed_as == "status" and (field == "calls" or of == "call"):
        return "call_status"
    if isinstance(of, str) and of not in ("", "message"):
        return "other_status"
    return "history" if listed_as == "message" and field == "history" else listed_as


def _listed(found: Any) -> Sequence[Any]:
    """The items of a list. A value of another type counts as one item, which is unreadable."""
    return found if isinstance(found, list) else [found] if found else ()


def item_event_id(item: WhatsAppItem) -> str:
    """Preferences and changes of other fields (templates, account updates) have no id: they are what they say."""
    kind, data, around = item.kind, item.data, item.around
    if kind in ("change", "entry"):
        of = around.get("object") if kind == "entry" else require_object(data, "changes[]").get("field")
        return event_id(clean_type(of), digest_of(data).hex())
    data = require_object(data, _PLACES[kind])
    if kind == "preference":
        return event_id("user_preferences", digest_of([around["value"].get("metadata"), data]).hex())
    name = require_text(data.get("id"), f"{_PLACES[kind]}.id")
    if kind in ("message", "echo"):
        return event_id(name)
    if kind == "history":
        # The same message comes again, once its media is there.
        return event_id("history", name, clean_type(data.get("type")))
    if kind == "call":
        return event_id(name, require_text(data.get("event"), "calls[].event"))
    if kind == "other_status":
        return event_id(clean_type(data.get("type")), name, digest_of(data).hex())
    said = require_text(data.get("status"), "statuses[].status")
    # A message to a group has statuses of each participant.
    participant = data.get("recipient_participant_id") or data.get("recipient_participant_user_id")
    return event_id(name, said, participant) if isinstance(participant, str) else event_id(name, said)


def item_type(item: WhatsAppItem) -> str:
    """`whatsapp.message.text`, `whatsapp.status.read`, `whatsapp.call.terminate`."""
    kind, data = item.kind, item.data
    if kind == "entry":
        return f"whatsapp.{clean_type(item.around.get('object'))}"
    if kind == "change":
        return f"whatsapp.{clean_type(data.get('field'))}"
    if kind == "preference":
        return "whatsapp.user_preferences"
    if kind == "call":
        return f"whatsapp.call.{clean_type(data.get('event'))}"
    if kind == "call_status":
        return f"whatsapp.call.{clean_type(data.get('status')).lower()}"
    if kind == "other_status":
        return f"whatsapp.{clean_type(data.get('type'))}.{clean_type(data.get('status'))}"
    return f"whatsapp.{kind}.{clean_type(data.get('status' if kind == 'status' else 'type'))}"


def display_phone_number(item: WhatsAppItem) -> str | None:
    """The business' number, as in the change around an event. An odd one must not cost the events of the change."""
    metadata = item.around["value"].get("metadata")
    number = metadata.get("display_phone_number") if isinstance(metadata, dict) else None
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    return number if isinstance(number, str) else None


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
