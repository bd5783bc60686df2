"""Invariants 3 and 9 against any bytes: a verdict or a dead letter, never another exception. Pure, so it is fast.

`make fuzz` looks for longer, by coverage; what is checked is the same.
"""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.envelope import Delivery, VerifiedDelivery
from schemas.providers import PROVIDERS
from tests.fuzz import checks, operators
from tests.fuzz.request import NOW, Request
from tests.support.amounts import amount

NAMES = sorted({name for provider in PROVIDERS.values() for name in provider.kept_headers} | {"content-type"})
PIECES = st.sampled_from(
    ["t=", "v1=", "v0=", ",", "=", "sha256=", "v1,", "v1a,", " ", "AA==", "0", "1", "-", "²", "é", "\udcff", "\0",
     "999999999999999999999", "key=k,algorithm=", "HMAC_SHA256", "application/json", "application/x-www-form-urlencoded"]
)  # fmt: skip
HEADERS = st.dictionaries(st.sampled_from(NAMES), st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=30))
URLS = st.sampled_from(
    ["", "x", "http://", "https://u:p@h:1/x?bodySHA256=00", "http://[::1]:80/a", "http://h/ü?%zz", "://"]
)

KEYS = st.sampled_from(
    ["id", "type", "object", "data", "created", "livemode", "entry", "changes", "value", "messages", "statuses", "field",
     "metadata", "display_phone_number", "from", "timestamp", "text", "body", "status", "recipient_id", "errors", "code",
     "customer", "items", "price", "amount", "amount_refunded", "payment_intent", "subscription", "credits", "source",
     "specversion", "messageSid", "messageStatus", "time", "event", "call", "call_id", "call_status", "call_analysis",
     "event_type", "payload", "occurred_at", "to", "direction", "call_leg_id", "portalId", "eventId", "occurredAt",
     "subscriptionType", "objectId", "objectTypeId", "propertyName", "mergedObjectIds", "primaryObjectId", "email",
     "sg_message_id", "sg_event_id", "token", "number", "digits", "raw_digits", "started_at", "duration",
     "edit", "revoke", "reaction", "message", "original_message_id", "message_id", "emoji", "interactive", "contacts", "threads",
     "start_time", "end_time", "wa_id", "user_id", "category", "group_id", "recipient_participant_id", "history_context"]
)  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["active", "sent", "delivered", "paid", "credit_purchase", "1750000000", "\0", "a" * 3000, 2**70, -1,
                       "com.twilio.messaging.message.delivered", "2026-01-01T00:00:00Z", "9999-99-99", 10**18, "call.ended",
                       "call.hangup", "message.finalized", "call_ended", "contact.propertyChange", "contact.merge", "bounce"])
)  # fmt: skip
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
TYPES = st.sampled_from(
    ["customer.subscription.updated", "invoice.paid", "payment_intent.succeeded", "checkout.session.completed",
     "charge.refunded", "credits.used", "other"]
)  # fmt: skip
EVENTS = st.builds(
    lambda kind, data, created: {"id": "evt_1", "type": kind, "created": created, "data": {"object": data, **(data if isinstance(data, dict) else {})}},
    TYPES, DOCUMENTS, LEAVES,
)  # fmt: skip
WHATSAPP = st.builds(
    lambda field, kind, update: {"entry": [{"changes": [{"field": field, "value": {kind: [update]}}]}]},
    st.sampled_from(["messages", "calls", "history"]),
    st.sampled_from(["messages", "statuses", "message_echoes", "calls", "user_preferences", "history"]),
    DOCUMENTS | st.builds(
        lambda kind, content: {"id": "wamid.1", "type": kind, kind: content, "timestamp": "1760000000"},
        st.sampled_from(["text", "image", "interactive", "contacts", "edit", "revoke", "reaction", "system", "unsupported"]),
        DOCUMENTS,
    ),
)  # fmt: skip
FORMS = st.dictionaries(
    st.sampled_from(["MessageSid", "MessageStatus", "SmsStatus", "CallSid", "CallStatus", "CallDuration", "Timestamp", "From",
                     "To", "Body", "NumMedia", "MediaContentType0", "ErrorCode", "Direction", "EventType", "MessageType"]),
    st.sampled_from(["", "SM1", "sent", "completed", "12", "x", "%ff%00", "Thu, 26 Jun 2025 09:16:20 +0000", "whatsapp:+1", "messenger:1", "CA1"]),
).map(lambda fields: "&".join(f"{k}={v}" for k, v in fields.items()).encode())  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=200),
    FORMS,
    st.one_of(DOCUMENTS, EVENTS, WHATSAPP, st.lists(DOCUMENTS, max_size=3)).map(lambda d: json.dumps(d).encode()),
)


PROVIDER = st.sampled_from(sorted(PROVIDERS))
CONTENT_TYPES = st.sampled_from(["", "application/json", "application/x-www-form-urlencoded"])
many = settings(max_examples=amount(120, 400), suppress_health_check=list(HealthCheck))


@many
@given(PROVIDER, HEADERS, URLS, BODIES, st.sampled_from(["POST", "GET"]), st.text(max_size=40))
def test_what_nobody_signed_is_rejected(
    name: str, headers: dict[str, str], url: str, body: bytes, method: str, query: str
) -> None:
    assert not checks.check_verify(name, Delivery(name, method, url, "/", query, headers, body, "", 0))
    operators.check_handshake(query.encode("utf-8", "surrogatepass"))


@many
@given(PROVIDER, BODIES, CONTENT_TYPES, st.text(max_size=30))
def test_what_is_verified_is_named_kept_and_folded(name: str, body: bytes, content_type: str, query: str) -> None:
    delivery = Delivery(name, "POST", "", "/", query, {"content-type": content_type}, body, "", NOW * 1000)
    checks.check_verified(name, VerifiedDelivery(delivery, "signed", 0, "msg_1"))


@many
@given(
    st.dictionaries(
        st.sampled_from(
            ["ce_id", "ce_type", "ce_source", "redrive_provenance", "http_method", "http_query", "content-type", "x"]
        ),
        st.binary(max_size=20),
    ),
    BODIES,
)
def test_whatever_somebody_writes_into_a_topic_is_folded_or_dead(headers: dict[str, bytes], body: bytes) -> None:
    texts = {name: value.decode("utf-8", "surrogateescape") for name, value in headers.items()}
    operators.check_envelope(Request(headers=texts, body=body))
