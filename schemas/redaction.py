"""A record without personal data: the shape of its body, its headers without credentials.

A list of names selects the values of a body that are shown; everything else is hidden. The list and the rules are in
docs/reference/redaction.md. Must not know providers, records or where they come from.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import orjson

from schemas.masking import MASK, mask_digits, mask_id, mask_text
from schemas.text import loads

KINDS: Final = (
    "object type event event_type subscriptionType record_type kind status direction mode field action"
    " messaging_product api_version specversion livemode currency propertyName changeSource call_status"
    " MessageStatus SmsStatus payment_status hangup_cause disconnection_reason missed_call_reason failure_code"
    " decline_code error_code"
)
IDS: Final = (
    "id event_id sg_event_id sg_message_id MessageSid CallSid call_id call_leg_id objectId portalId subscriptionId"
    " payment_intent subscription invoice charge"
)
TIMES: Final = (
    "created created_at timestamp time occurredAt started_at answered_at ended_at sent_at received_at completed_at"
    " start_time end_time start_timestamp end_timestamp current_period_start current_period_end paid_at"
)
AMOUNTS: Final = (
    "amount amount_due amount_paid amount_refunded amount_total credits quantity attempt attempt_count attemptNumber"
    " duration duration_ms CallDuration NumMedia NumSegments SequenceNumber pending_webhooks"
)

_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]")


def _plain_name(name: str) -> str:
    """`CallStatus`, `call_status` and `call-status` are one name."""
    return _NOT_IN_NAMES.sub("", name.lower())


SHOWN: Final = frozenset(_plain_name(name) for names in (KINDS, IDS, TIMES, AMOUNTS) for name in names.split())
"""Names whose values are shown, in any spelling, anywhere in a body."""

_CREDENTIAL: Final = re.compile(r"signature|token|secret|authorization|cookie|digest|password|api.?key", re.IGNORECASE)
"""Headers and parameters of such names are masked whoever asks."""

_WORD: Final = re.compile(r"[\w.:+/%=~@•-]{1,200}", re.ASCII)
_MAIL_TIME: Final = re.compile(r"[A-Z][a-z]{2}, \d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", re.ASCII)
_NAME: Final = re.compile(r"[\w$@+•][\w$@+•.:\[\]-]{0,63}", re.ASCII)
_RUN: Final = re.compile(r"\d{7,}")
_TIME_NUMBER: Final = re.compile(r"1\d{9}(?:\d{3})?")
_LONG: Final = 24
"""From this length on, digits that touch letters are a random id's; a shorter word may be a name with a number."""

QUERY: Final = "http_query"
REMOTE: Final = "http_remote"

_DEEPEST: Final = 60
_FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 1000


def redacted_body(body: bytes, content_type: str) -> dict[str, Any]:
    """`format` (json, form, opaque, empty), `bytes`, `sha256`, and for the first two `shape`.

    The shape has the body's structure and names. Leaves are `<text 12>` or `<number>`, unless their name is `SHOWN`;
    a form is a list of (name, value).
    """
    kind, shape = _shape(body, content_type)
    view = {"format": kind, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return {**view, "shape": shape} if kind in ("json", "form") else view


def revealed_body(body: bytes) -> dict[str, Any]:
    """`bytes`, `sha256`, and the whole as `text`, or as `base64` if it is not UTF-8."""
    view = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    try:
        return {**view, "text": body.decode()}
    except UnicodeDecodeError:
        return {**view, "base64": base64.b64encode(body).decode()}


def redacted_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The Kafka headers of a record: no credentials, and nothing personal."""
    return {
        _name(name): MASK if _CREDENTIAL.search(name) else _redacted_header(name, value)
        for name, value in headers.items()
    }


def revealed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The same headers whole, except for credentials: who may see bodies need not be able to forge them."""
    return {
        name: MASK if _CREDENTIAL.search(name) else _without_credentials(value) if name == QUERY else value
        for name, value in headers.items()
    }


def _shape(body: bytes, content_type: str) -> tuple[str, Any]:
    if not body:
        return "empty", None
    if content_type.partition(";")[0].strip().lower() == _FORM:
        pairs = _pairs(body.decode("utf-8", "replace"))
        return ("opaque", None) if pairs is None else ("form", [[_name(k), redacted_value(k, v)] for k, v in pairs])
    try:
        return "json", _redacted(loads(body), "", 0)
    except orjson.JSONDecodeError:
        return "opaque", None


def _pairs(text: str) -> list[tuple[str, str]] | None:
    """A form's fields; None for what only pretends to be one."""
    if "=" not in text:
        return None
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_MAX_FIELDS)
    except ValueError:
        return None


def _redacted(value: Any, name: str, depth: int) -> Any:
    if isinstance(value, dict):
        return _object(value, depth) if depth < _DEEPEST else "<deeper>"
    if isinstance(value, list):
        # The items of a list have no names of their own.
        return [_redacted(item, "", depth + 1) for item in value] if depth < _DEEPEST else "<deeper>"
    return redacted_value(name, value)


def _object(value: dict[str, Any], depth: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, item in value.items():
        masked = label = _name(name)
        count = 1
        while label in shown:
            count += 1
            label = f"{masked} #{count}"
        shown[label] = _redacted(item, name, depth + 1)
    return shown


def _name(name: str) -> str:
    """Names are chosen by programs, but maps are keyed by numbers and addresses, and a broken form by its text."""
    masked = _mask_word(name)
    return masked if _NAME.fullmatch(masked) else f"<name {len(name)}>"


def redacted_value(name: str, value: Any) -> Any:
    """A leaf of a body, or a column: whole only where its name is `SHOWN`."""
    if value is None or isinstance(value, bool) or value == "":
        return value
    is_text = isinstance(value, str)
    if _plain_name(name) in SHOWN:
        text = value if is_text else str(value)
        masked = _mask_word(text)
        if not is_text:
            return value if masked == text else masked
        if _WORD.fullmatch(masked) or _MAIL_TIME.fullmatch(value):
            return masked
    return f"<text {len(value)}>" if is_text else "<number>"


def _mask_word(text: str) -> str:
    masked = mask_text(text)
    return masked if len(text) >= _LONG else _RUN.sub(_mask_run, masked)


def _mask_run(found: re.Match[str]) -> str:
    return found[0] if _TIME_NUMBER.fullmatch(found[0]) else mask_digits(found[0])


def _redacted_header(name: str, value: str) -> str:
    if name == QUERY:
        # Twilio may send by GET, and then this is the body.
        return "&".join(f"{_name(field)}={_parameter(field, text)}" for field, text in _pairs(value) or ())
    if name == REMOTE:
        return value
    return mask_id(value) if name.endswith("id") else mask_text(value)


def _parameter(name: str, value: str) -> str:
    return MASK if _CREDENTIAL.search(name) else str(redacted_value(name, value))


def _without_credentials(query: str) -> str:
    """The query as it came, byte for byte but for the values of what is called a credential."""
    parts = [part.partition("=") for part in query.split("&")]
    return "&".join(
        f"{name}{equals}{MASK}" if equals and _CREDENTIAL.search(unquote_plus(name)) else f"{name}{equals}{value}"
        for name, equals, value in parts
    )
