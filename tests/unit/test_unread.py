"""Unread is not dead, and read is not unread; what is dead names the field that is at fault."""

import json
import re
from typing import Any

import pytest

from processors.fold import fold_record
from schemas.providers import PROVIDERS
from tests.support.damage import NO_ITEMS, batch_of, contact, stream_event
from tests.support.folding import letter_of
from tests.support.records import FakeRecord, record


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


UNREAD: dict[str, tuple[str, Any, list[str]]] = {
    "aircall: AI": ("aircall", {"event": "sentiment.created", "data": {"call_id": 1}}, ["aircall.sentiment.created"]),
    "aircall: no data": ("aircall", {"event": "analytics.report_created"}, ["aircall.analytics.report_created"]),
    "retell: alert": ("retell", {"event": "alert_triggered", "alert": {"id": "a"}}, ["retell.alert_triggered"]),
    "retell: nothing else": ("retell", {"event": "alert_resolved"}, ["retell.alert_resolved"]),
    "stripe: no id": ("stripe", {"type": "account.updated"}, ["stripe.account.updated"]),
    "telnyx: no id": ("telnyx", {"data": {"event_type": "fax.received"}}, ["telnyx.fax.received"]),
    "hubspot: workflow": ("hubspot", {"callbackId": "x", "object": {"objectId": 1}}, ["hubspot.other"]),
    "hubspot: no id": ("hubspot", [{"subscriptionType": "conversation.newMessage"}], ["hubspot.conversation.newMessage"]),
    "hubspot: association": ("hubspot", [{**contact(1), "subscriptionType": "deal.associationChange", "eventId": None}],
                             ["hubspot.deal.associationChange"]),
    "whatsapp: Messenger": ("whatsapp", {"object": "page", "entry": [{"id": "1", "messaging": [{}]}, {"id": "2"}]},
                            ["whatsapp.page", "whatsapp.page"]),
    "whatsapp: Instagram, and a change": ("whatsapp", {"object": "instagram", "entry": [
        {"id": "1", "messaging": [{"message": {"mid": "m"}}]}, {"id": "1", "changes": [{"field": "comments", "value": {}}]}]},
                                          ["whatsapp.instagram", "whatsapp.comments"]),
    "whatsapp: nested too deep for a digest": ("whatsapp", {"entry": [{"changes": [
        {"field": "account_update", "value": nested(300)}, {"field": "flows", "value": {}}]}]},
                                               ["whatsapp.account_update", "whatsapp.flows"]),
    "whatsapp: no entry": ("whatsapp", {"object": "instagram"}, ["whatsapp.instagram"]),
    "sendgrid: an object": ("sendgrid", {"hello": "world"}, ["sendgrid.other"]),
    "twilio: no id": ("twilio", [{"type": "com.twilio.voice.insights"}, stream_event(1)],
                      ["twilio.com.twilio.voice.insights", "twilio.com.twilio.messaging.message.sent"]),
    "standardwebhooks: Latin-1 id": ("standardwebhooks", {"type": "user.created"}, ["standardwebhooks.user.created"]),
}  # fmt: skip
"""(provider, body, types of its events)."""

UNREADABLE: dict[str, tuple[str, Any, str]] = {
    "aircall: no id": ("aircall", {"event": "call.ended", "data": {}}, "data.id: missing"),
    "aircall: odd id": (
        "aircall",
        {"event": "call.ended", "data": {"id": []}},
        "data.id: neither a whole number nor text",
    ),
    "aircall: no data": ("aircall", {"event": "call.ended"}, "data: missing"),
    "aircall: no event": ("aircall", {"data": {"id": 1}}, "event: missing"),
    "aircall: no object": ("aircall", [], "the body: not an object"),
    "retell: no call": ("retell", {"event": "call_ended"}, "call: missing"),
    "retell: no id": ("retell", {"event": "call_ended", "call": {"x": 1}}, "call.call_id: missing"),
    "retell: no event": ("retell", {"call": {"call_id": "c"}}, "event: missing"),
    "stripe: no id": ("stripe", {"type": "invoice.paid"}, "id: missing"),
    "stripe: no type": ("stripe", {"id": "evt_1"}, "type: missing"),
    "stripe: no object": ("stripe", {"id": "evt_1", "type": "invoice.paid", "data": {}}, "data.object: missing"),
    "telnyx: no data": ("telnyx", {}, "data: missing"),
    "telnyx: no payload": (
        "telnyx",
        {"data": {"id": "1", "event_type": "call.hangup", "occurred_at": "2026-01-01T00:00:00Z"}},
        "data.payload: missing",
    ),
    "whatsapp: no entry": ("whatsapp", {"object": "whatsapp_business_account"}, "entry: no change in any of them"),
    "hubspot: no list": ("hubspot", 5, "the body: not a list of events"),
    "standardwebhooks: Latin-1 id": (
        "standardwebhooks",
        {"type": "credits.used", "data": {"id": "u", "customer": "c", "credits": 1, "source": "stripe"}},
        "webhook-id: not UTF-8 text",
    ),
}
"""(provider, body, what is said of it)."""


def delivered(provider: str, body: Any) -> FakeRecord:
    return record(f"webhooks.{provider}", provider, json.dumps(body).encode(), signed_id="msg_\udce9")


@pytest.mark.parametrize("name", UNREAD)
def test_what_nobody_reads_is_indexed_and_ignored_whatever_it_lacks(name: str) -> None:
    provider, body, types = UNREAD[name]
    folded = fold_record(delivered(provider, body))
    assert not folded.letters
    assert [event.type for event in folded.events] == types
    assert folded.events[0].status == "ignored"
    assert len({event.event_id for event in folded.events}) == len(types)
    again = fold_record(delivered(provider, body))
    assert [event.event_id for event in again.events] == [event.event_id for event in folded.events]


@pytest.mark.parametrize("name", UNREAD)
def test_a_record_that_an_older_ingress_called_unparsable_is_ignored_as_well(name: str) -> None:
    provider, body, types = UNREAD[name]
    old = delivered(provider, body)
    old.headers = [
        (key, f"{provider}.unparsable".encode() if key == "ce_type" else value) for key, value in old.headers
    ]
    assert [event.type for event in fold_record(old).events] == types


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_read_and_cannot_be_is_a_dead_letter_that_names_the_field(name: str) -> None:
    provider, body, message = UNREADABLE[name]
    dead = letter_of(delivered(provider, body))
    assert dead.message == message
    assert dead.reason in ("invalid_payload", "unparsable")


def test_no_dead_letter_names_a_line_of_code() -> None:
    odd: list[Any] = [
        *NO_ITEMS,
        {},
        {"event": 1},
        {"event": {}},
        {"type": []},
        {"data": 5},
        {"entry": 5},
        {"entry": [5]},
    ]
    odd += [{"data": {"id": "x", "event_type": {}}}, {"event": "call.ended", "data": {"id": 1, "number": 5}}]
    for provider in PROVIDERS:
        bodies = [json.dumps(one).encode() for one in odd] + [json.dumps([one]).encode() for one in odd]
        bodies += [batch_of("whatsapp", [one]) for one in odd] + [b"", b"x", b"a=b"]
        for body in bodies:
            for letter in fold_record(record(f"webhooks.{provider}", provider, body)).letters:
                assert not re.search(r"\.py|Error\b", letter.message), (provider, body, letter.message)
                assert letter.reason != "projection_failed", (provider, body, letter.message)


@pytest.mark.parametrize("name", ["id", "customer", "source"])
@pytest.mark.parametrize("byte", [b"\xe9", b"\xe8"])
def test_a_usage_whose_names_are_no_utf_8_is_dead_and_no_other_ones(name: str, byte: bytes) -> None:
    """Read as U+FFFD, two of them would be one, and credits would be used for nothing."""
    data = {"id": b"usage-1", "customer": b"cus_1", "source": b"stripe"}
    data[name] = data[name] + byte
    fields = b",".join(b'"%b":"%b"' % (key.encode(), value) for key, value in data.items())
    body = b'{"type":"credits.used","timestamp":"2026-01-01T00:00:00Z","data":{"credits":5,%b}}' % fields
    letter = letter_of(record("webhooks.standardwebhooks", "standardwebhooks", body, signed_id="msg_1"))
    assert f"data.{name}: not UTF-8 text" in str(letter)


def test_a_usage_whose_reason_is_no_utf_8_counts() -> None:
    body = b'{"type":"credits.used","data":{"id":"u","customer":"c","credits":5,"source":"s","reason":"caf\xe9"}}'
    folded = fold_record(record("webhooks.standardwebhooks", "standardwebhooks", body, signed_id="msg_1"))
    assert [event.status for event in folded.events] == ["applied"]
