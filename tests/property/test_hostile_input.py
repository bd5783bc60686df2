"""Invariants 3 and 9 against any bytes: a verdict or a dead letter, never another exception. Pure, so it is fast."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.fold import Dead, Folded, combine, fold_record
from schemas.envelope import Delivery, VerifiedDelivery
from schemas.errors import RejectedDelivery
from schemas.providers import PROVIDERS, fingerprint_of, identify, verify
from schemas.providers.base import Secrets
from schemas.providers.whatsapp import answer_handshake
from tests.support import signing
from tests.support.records import FakeRecord, record

SECRETS = {
    "stripe": Secrets((signing.STRIPE,)),
    "whatsapp": Secrets((signing.WHATSAPP,), "token"),
    "twilio": Secrets((signing.TWILIO,)),
    "aircall": Secrets((signing.SECRETS["AIRCALL_WEBHOOK_TOKEN"],)),
    "hubspot": Secrets((signing.SECRETS["HUBSPOT_CLIENT_SECRET"],), schemes=frozenset({"v1", "v2"})),
    "retell": Secrets((signing.SECRETS["RETELL_API_KEY"],)),
    "telnyx": Secrets((signing.SECRETS["TELNYX_PUBLIC_KEY"],)),
    "sendgrid": Secrets((signing.SECRETS["SENDGRID_PUBLIC_KEY"],)),
    "google_calendar": Secrets((signing.SECRETS["GOOGLE_CALENDAR_CHANNEL_TOKEN"],)),
    "standardwebhooks": Secrets((signing.STANDARD, "whpk_x2QIDsIHu2agCyaO8xU7yZsIdilqWMqYHyelKCToRsg=")),
}
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
     "sg_message_id", "sg_event_id", "token", "number", "digits", "raw_digits", "started_at", "duration"]
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
    lambda kind, update: {"entry": [{"changes": [{"field": "messages", "value": {kind: [update]}}]}]},
    st.sampled_from(["messages", "statuses"]), DOCUMENTS,
)  # fmt: skip
FORMS = st.dictionaries(
    st.sampled_from(["MessageSid", "MessageStatus", "SmsStatus", "CallSid", "CallStatus", "CallDuration", "Timestamp", "From",
                     "To", "Body", "NumMedia", "MediaContentType0", "ErrorCode", "Direction"]),
    st.sampled_from(["", "SM1", "sent", "completed", "12", "x", "%ff%00", "Thu, 26 Jun 2025 09:16:20 +0000", "whatsapp:+1"]),
).map(lambda fields: "&".join(f"{k}={v}" for k, v in fields.items()).encode())  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=200),
    FORMS,
    st.one_of(DOCUMENTS, EVENTS, WHATSAPP, st.lists(DOCUMENTS, max_size=3)).map(lambda d: json.dumps(d).encode()),
)


def verify_target(examples: int) -> Callable[[], None]:
    @_examples(examples)
    @given(
        st.sampled_from(sorted(PROVIDERS)),
        HEADERS,
        URLS,
        BODIES,
        st.sampled_from(["POST", "GET"]),
        st.text(max_size=40),
    )
    def run(name: str, headers: dict[str, str], url: str, body: bytes, method: str, query: str) -> None:
        delivery = Delivery(name, method, url, "/", query, headers, body, "", 0)
        with pytest.raises(RejectedDelivery):
            verify(PROVIDERS[name], delivery, SECRETS[name], 1_750_000_000)
        with pytest.raises(RejectedDelivery):
            answer_handshake(query, SECRETS["whatsapp"])

    return run


def identify_target(examples: int) -> Callable[[], None]:
    @_examples(examples)
    @given(
        st.sampled_from(sorted(PROVIDERS)),
        BODIES,
        st.sampled_from(["", "application/json", "application/x-www-form-urlencoded"]),
        st.text(max_size=30),
    )
    def run(name: str, body: bytes, content_type: str, query: str) -> None:
        delivery = Delivery(name, "POST", "", "/", query, {"content-type": content_type}, body, "", 0)
        identity = identify(PROVIDERS[name], VerifiedDelivery(delivery, "signed", 0, "msg_1"))
        assert identity.record_id
        assert len(identity.fingerprint) == 32
        assert "\0" not in identity.type

    return run


def fold_target(examples: int) -> Callable[[], None]:
    @_examples(examples)
    @given(
        st.sampled_from(sorted(PROVIDERS)),
        BODIES,
        st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
    )
    def run(name: str, body: bytes, content_type: str) -> None:
        one = record(f"webhooks.{name}", name, body, content_type=content_type, signed_id="msg_1")
        folded = fold_record(one)
        if isinstance(folded, Dead):
            assert folded.reason in ("unparsable", "invalid_payload"), folded.message
            combine((), [folded])
        else:
            assert isinstance(folded, Folded)
            combine([folded, folded])

    return run


def envelope_target(examples: int) -> Callable[[], None]:
    names = st.sampled_from(
        ["ce_id", "ce_type", "ce_source", "redrive_provenance", "http_method", "http_query", "content-type", "x"]
    )

    @_examples(examples)
    @given(st.lists(st.tuples(names, st.binary(max_size=20)), max_size=8), BODIES)
    def run(headers: list[tuple[str, bytes]], body: bytes) -> None:
        found = fold_record(FakeRecord("webhooks.x", 0, 0, 0, None, body, headers))
        assert isinstance(found, Dead | Folded)

    return run


def fingerprint_target(examples: int) -> Callable[[], None]:
    """What a restart reads back from the log is what the ingress knew: else a duplicate would be appended."""

    @_examples(examples)
    @given(
        st.sampled_from(sorted(PROVIDERS)),
        BODIES,
        st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
    )
    def run(name: str, body: bytes, content_type: str) -> None:
        from schemas.envelope import Record

        delivery = Delivery(name, "POST", "", "/", "", {"content-type": content_type}, body, "", 0)
        identity = identify(PROVIDERS[name], VerifiedDelivery(delivery, "signed", 0, "msg_1"))
        one = record(f"webhooks.{name}", name, body, content_type=content_type, signed_id="msg_1")
        read = Record.decode(one.topic, one.partition, one.offset, one.timestamp, one.headers, one.value)
        assert (read.record_id, fingerprint_of(read)) == (identity.record_id, identity.fingerprint)

    return run


def _examples(count: int) -> Any:
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


TARGETS: dict[str, Callable[[int], Callable[[], None]]] = {
    "verify": verify_target,
    "identify": identify_target,
    "fold": fold_target,
    "envelope": envelope_target,
    "fingerprint": fingerprint_target,
}


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_raise_outside_the_taxonomy(name: str) -> None:
    TARGETS[name](400)()
