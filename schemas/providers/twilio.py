"""Twilio: HMAC over the called URL and the sorted form parameters, base64. https://www.twilio.com/docs/usage/security

The signature covers the URL as configured, byte for byte, and nothing about time: dedupe is the protection against
replays. JSON bodies (Event Streams) are covered by a hash in the URL.
"""

import base64
import hashlib
import hmac
import re
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote

from schemas.envelope import Delivery, Identity, Request
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
    item_id,
    parse_json,
    reject_mismatch,
    require_header,
    require_text,
    time_of_iso,
)
from schemas.providers.batches import bounded
from schemas.providers.models import Model, require_object
from schemas.providers.times import time_of_mail_text

HEADER: Final = "x-twilio-signature"
SETTINGS_HEADER: Final = "x-twilio-webhooks-signature-settings"
FORM: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 1000
INBOUND: Final = frozenset({"receiving", "received"})

_MESSAGES: Final = ("SM", "MM")
_OTHER_EVENT: Final = re.compile(r"on[A-Z].*|.*\..*|[a-z]+(?:_[a-z]+)+", re.DOTALL)
"""`EventType` of Conversations, Chat, Flex (`onMessageAdded`), TaskRouter (`task.created`) and Sync (`item_added`)."""

_OTHER_SIDS: Final = frozenset({"ConversationSid", "ChannelSid", "InteractionSid", "TaskSid", "ServiceSid"})

_ESCAPED: Final = re.compile("%(?:40|3A)", re.IGNORECASE)
_ALGORITHMS: Final = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """The signature may have been made with or without the port, and of a GET before its query was escaped.

    The settings header names the hash; without it, it is SHA-1.
    """
    signature = require_header(delivery, HEADER).encode("utf-8", "replace")
    algorithm = _algorithm(delivery.headers.get(SETTINGS_HEADER))
    if algorithm is None:
        raise reject_mismatch()
    parameters = _signed_parameters(delivery)
    try:
        urls = _spellings(delivery)
    except ValueError as error:
        raise reject_mismatch() from error
    for index, secret in enumerate(secrets.values):
        key = secret.encode()
        candidates = [
            base64.b64encode(hmac.digest(key, url.encode("utf-8", "surrogateescape") + parameters, algorithm))
            for url in urls
        ]
        if any([hmac.compare_digest(candidate, signature) for candidate in candidates]):
            return Signature(index)
    raise reject_mismatch()


def _algorithm(settings: str | None) -> str | None:
    """`key=<id>,algorithm=HMAC_SHA256`; an algorithm that we don't know fails closed."""
    if settings is None:
        return "sha1"
    fields = dict(item.strip().partition("=")[::2] for item in settings.split(","))
    return _ALGORITHMS.get(fields.get("algorithm", ""))


def _signed_parameters(delivery: Delivery) -> bytes:
    """The part of the signed string after the URL. Raises `signature_mismatch` for a body that no signature covers."""
    if delivery.method == "GET" and delivery.body:
        raise reject_mismatch()
    if delivery.method == "GET" or (not delivery.body and not delivery.content_type):
        return b""
    if _is_form(delivery.content_type):
        try:
            # Latin-1 both ways keeps every byte, also of broken UTF-8.
            pairs = parse_qsl(
                delivery.body.decode("latin-1"),
                keep_blank_values=True,
                encoding="latin-1",
                max_num_fields=MAX_FIELDS,
            )
        except ValueError as error:
            raise reject_mismatch() from error
        # A repeated parameter counts once per distinct value, sorted: a set of pairs, sorted, is just that.
        return "".join(name + value for name, value in sorted(set(pairs))).encode("latin-1")
    expected = parse_qs(delivery.query).get("bodySHA256", [""])[0]
    digest = hashlib.sha256(delivery.body).hexdigest()
    if not hmac.compare_digest(digest.encode(), expected.encode("utf-8", "replace")):
        raise reject_mismatch()
    return b""


def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM


def _spellings(delivery: Delivery) -> tuple[str, ...]:
    """What Twilio may have signed. Of SIP calls it has signed the parameters of a GET with `@` and `:` as they are, and
    requested them escaped (twilio-node, pull request 621). Neither separates anything in a query, so both spellings say
    the same: one signature vouches for no second meaning.
    """
    urls = _with_and_without_port(delivery.url)
    if delivery.method != "GET" or not _ESCAPED.search(delivery.query):
        return urls
    return *urls, *(url.partition("?")[0] + "?" + _ESCAPED.sub(_character, delivery.query) for url in urls)


def _character(escape: re.Match[str]) -> str:
    return unquote(escape[0])


def _with_and_without_port(url: str) -> tuple[str, str]:
    """Both spellings of one URL; credentials stay, and so does every other byte."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError("not an absolute URL")
    end = min((i for i in (rest.find(c) for c in "/?#") if i >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    credentials, at, host = authority.rpartition("@")
    bare, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        bare, port = host, "443" if scheme.lower() == "https" else "80"
    prefix = f"{scheme}://{credentials}{at}{bare}"
    return f"{prefix}{tail}", f"{prefix}:{port}{tail}"


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    parameters = b""
    if _is_form(content_type):
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
        parameters = "".join(name + value for name, value in sorted(set(pairs))).encode()
    digest = hmac.digest(secret.encode(), url.encode() + parameters, "sha1")
    return {"X-Twilio-Signature": base64.b64encode(digest).decode(), "Content-Type": content_type}


def parse(request: Request) -> Payload:
    """Form pairs in order (a GET carries them in its query), or the JSON of Event Streams."""
    if request.method != "GET" and request.content_type and not _is_form(request.content_type):
        return parse_json(request)
    form = request.query.encode("utf-8", "surrogateescape") if request.method == "GET" else request.body
    text = form.decode("utf-8", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Unparsable(str(error)) from error


def is_event_stream(payload: Payload) -> bool:
    """A form is a list of pairs, and JSON has no pairs."""
    return isinstance(payload, dict) or (
        isinstance(payload, list) and bool(payload) and not isinstance(payload[0], tuple)
    )


def is_other_json(payload: Payload) -> bool:
    """A callback of another product, such as Voice Intelligence: events of a stream have ids, as all CloudEvents."""
    return isinstance(payload, dict) and not payload.keys() & {"specversion", "id"}


def stream_events(payload: Payload) -> list[Any]:
    """Event Streams post a list of CloudEvents, and one alone in some sinks."""
    return [payload] if isinstance(payload, dict) else bounded(payload)


def stream_event_id(event: Any) -> str:
    return event_id(require_text(require_object(event, "an event").get("id"), "id"))


def form_fields(payload: Payload) -> dict[str, str]:
    """The first value of every parameter."""
    fields: dict[str, str] = {}
    for name, value in payload:
        fields.setdefault(name, value)
    return fields


def form_identity(fields: dict[str, str]) -> tuple[str, str]:
    """(event id, type without the provider) of a form. Raises `Unparsable` where it is neither message nor call.

    Only messages `SM…` and `MM…` were sent or received by Programmable Messaging: those of Conversations and Chat
    have a `MessageSid`, too, `IM…`.
    """
    if "EventType" in fields and _is_of_another_product(fields):
        raise Unparsable("a callback of another product, by its EventType")
    call, status = fields.get("CallSid", ""), fields.get("CallStatus")
    if call.startswith("CA") and status:
        return event_id(call, status), "call." + clean_type(status)
    message, status = fields.get("MessageSid", ""), _callback_status(fields)
    if message.startswith(_MESSAGES) and status:
        return event_id(message, status), "message." + clean_type(status)
    if message.startswith(_MESSAGES) and fields.get("From") and fields.get("To"):
        return event_id(message), "message.received"
    raise Unparsable("neither a message (MessageSid SM… or MM…) nor a call (CallSid CA… with CallStatus)")


def _is_of_another_product(fields: dict[str, str]) -> bool:
    """True if an `EventType` is another product's. Statuses on WhatsApp and RCS have one too: `READ`, `DELIVERED`."""
    is_message = fields.get("MessageSid", "").startswith(_MESSAGES)
    has_status = bool(fields.get("MessageStatus") or fields.get("SmsStatus"))
    is_other = _OTHER_EVENT.fullmatch(fields["EventType"]) is not None or not _OTHER_SIDS.isdisjoint(fields)
    return is_other or not (is_message and has_status)


def _callback_status(fields: dict[str, str]) -> str | None:
    """`SmsStatus` is the older name, and that of an inbound message, which is not a callback."""
    older = fields.get("SmsStatus")
    return fields.get("MessageStatus") or (None if older in INBOUND else older)


def fingerprint(payload: Payload) -> bytes:
    """A form is its parameters, whatever their order."""
    return digest_of(payload if is_event_stream(payload) else sorted(payload))


def identify(payload: Payload, signed_id: str | None) -> Identity:
    if is_other_json(payload):
        raise Unparsable("JSON of another product: it has no id")
    if is_event_stream(payload):
        ids = {item_id(stream_event_id, event) for event in stream_events(payload)}
        return Identity(batch_record_id(ids), "twilio.batch", None, fingerprint(payload))
    fields = form_fields(payload)
    record_id, kind = form_identity(fields)
    return Identity(record_id, "twilio." + kind, form_time(fields), fingerprint(payload))


def form_time(fields: dict[str, str]) -> datetime | None:
    """Voice callbacks carry an RFC 2822 `Timestamp`; SMS callbacks carry no time at all."""
    return time_of_mail_text(fields.get("Timestamp", ""))


PROVIDER: Final = Provider(
    name="twilio",
    secret_variable="TWILIO_AUTH_TOKEN",  # noqa: S106 - the variable's name
    methods=frozenset({"POST", "GET"}),
    kept_headers=(HEADER, SETTINGS_HEADER, "i-twilio-idempotency-token"),
    verify=verify,
    parse=parse,
    identify=identify,
    fingerprint=fingerprint,
    sign=sign,
    answer="twiml",
    signs_url=True,
)


class StreamMessage(Model):
    """`data` of a `com.twilio.messaging.message.*` CloudEvent."""

    messageSid: str
    messageStatus: str
    errorCode: int | str | None = None


def stream_time(event: dict[str, Any]) -> Any:
    return time_of_iso(event.get("time"))
