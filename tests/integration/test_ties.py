"""Invariant 5: of two facts of one event id each column keeps what is known, in whichever order they come."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.cases import NOW, fold_webhooks, webhook, webhooks_of
from tests.support.story import Webhook
from tests.support.tables import empty

Row = dict[str, Any]


def twilio(**fields: str) -> Webhook:
    return webhook("twilio", urlencode({"From": "+34600111222", "To": "+15550100100", **fields}).encode())


def telnyx(kind: str, **payload: Any) -> Webhook:
    data = {"id": "evt_1", "event_type": kind, "occurred_at": "2026-11-29T10:00:00Z", "payload": payload}
    return webhook("telnyx", json.dumps({"data": data}).encode())


def retell(kind: str, **call: Any) -> Webhook:
    return webhook("retell", json.dumps({"event": kind, "call": {"call_id": "call_1", **call}}).encode())


def sendgrid(**fields: Any) -> Webhook:
    event = {"event": "bounce", "timestamp": NOW, "sg_event_id": "e", "sg_message_id": "m.1", **fields}
    return webhook("sendgrid", json.dumps([event]).encode())


def stripe(kind: str, **data: Any) -> Webhook:
    event = {"id": "evt_1", "object": "event", "created": NOW, "type": kind, "data": {"object": data}}
    return webhook("stripe", json.dumps(event).encode())


def whatsapp(**fields: Any) -> Webhook:
    update = {"id": "wamid.1", "status": "failed", "timestamp": str(NOW), "recipient_id": "331", **fields}
    value = {"metadata": {"display_phone_number": "332"}, "statuses": [update]}
    return webhook("whatsapp", json.dumps({"entry": [{"changes": [{"field": "messages", "value": value}]}]}).encode())


def hubspot(**fields: Any) -> Webhook:
    change = {
        "portalId": 1,
        "subscriptionId": 2,
        "eventId": 3,
        "objectId": 9,
        "occurredAt": NOW * 1000,
        "subscriptionType": "contact.propertyChange",
        "propertyName": "city",
        **fields,
    }
    return webhook("hubspot", json.dumps([change]).encode())


ANALYSIS = {"call_summary": "It went well.", "user_sentiment": "Positive"}
NEIGHBOURS: dict[str, tuple[Webhook, Webhook, str, Row]] = {
    "a call's duration": (
        twilio(CallSid="CA1", CallStatus="completed", CallDuration="47"),
        twilio(CallSid="CA1", CallStatus="completed", DialCallStatus="completed"),
        "calls", {"status": "completed", "duration_seconds": Decimal(47)}),
    "a message's error": (
        twilio(MessageSid="SM1", MessageStatus="failed", ErrorCode="30003"),
        twilio(MessageSid="SM1", MessageStatus="failed"),
        "messages", {"status": "failed", "error_code": "30003"}),
    "a message's text": (
        twilio(MessageSid="SM1", SmsStatus="received", Body="hello"), twilio(MessageSid="SM1", SmsStatus="received"),
        "messages", {"kind": "text", "body": "hello"}),
    "each knows another column": (
        whatsapp(errors=[{"code": 131026}]), whatsapp(errors=[{"title": "Undeliverable"}]),
        "messages", {"error_code": "131026", "error_message": "Undeliverable"}),
    "an e-mail's error": (
        sendgrid(status="5.1.1", reason="no such user"), sendgrid(),
        "messages", {"error_code": "5.1.1", "error_message": "no such user"}),
    "why a call ended": (
        retell("call_ended", duration_ms=5000, disconnection_reason="user_hangup"), retell("call_ended"),
        "calls", {"duration_seconds": Decimal(5), "end_reason": "user_hangup"}),
    "what a call was about": (
        retell("call_analyzed", call_analysis=ANALYSIS),
        retell("call_analyzed", call_analysis={"user_sentiment": "Positive"}),
        "calls", {"summary": "It went well.", "sentiment": "Positive"}),
    "a hangup's cause": (
        telnyx("call.hangup", call_leg_id="leg", hangup_cause="user_busy"), telnyx("call.hangup", call_leg_id="leg"),
        "calls", {"end_reason": "user_busy"}),
    "a subscription's price": (
        stripe("customer.subscription.updated", id="sub_1", status="active", customer="cus_1",
               items={"data": [{"price": {"id": "price_1"}, "current_period_end": NOW}]}),
        stripe("customer.subscription.updated", id="sub_1", status="active", cancel_at_period_end=True),
        "subscriptions", {"price_id": "price_1", "cancel_at_period_end": True, "customer_id": "cus_1",
                          "current_period_end": datetime.fromtimestamp(NOW, UTC)}),
    "an invoice's amount": (
        stripe("invoice.updated", id="in_1", amount_due=900, currency="eur"),
        stripe("invoice.updated", id="in_1", amount_paid=0),
        "invoices", {"amount_due": 900, "amount_paid": 0, "currency": "eur"}),
    "a payment's failure": (
        stripe("payment_intent.payment_failed", id="pi_1", amount=5, status="requires_payment_method",
               last_payment_error={"code": "card_declined"}),
        stripe("payment_intent.payment_failed", id="pi_1", amount=5, status="requires_payment_method"),
        "payments", {"failure_code": "card_declined"}),
    "a property's value": (hubspot(propertyValue="Lyon"), hubspot(), "crm_objects", {"properties": '{"city": "Lyon"}'}),
}  # fmt: skip


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("is_one_batch", [True, False])
async def test_a_fact_that_knows_less_takes_nothing_away(
    name: str, order: int, is_one_batch: bool, shared_connection: Any
) -> None:
    *told, view, expected = NEIGHBOURS[name]
    await empty(shared_connection)
    told = told[::order]
    for batch in [told] if is_one_batch else [told[:1], told[1:]]:
        assert await fold_webhooks(shared_connection, batch) == []
        await shared_connection.execute("TRUNCATE redrive.positions")
    (row,) = await shared_connection.fetch(f"SELECT * FROM {view}")
    assert {column: row[column] for column in expected} == expected


@pytest.mark.parametrize("order", [1, -1])
async def test_a_dials_end_does_not_take_the_duration_of_its_call(shared_connection: Any, order: int) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("06-null-beats-value")[::order]) == []
    row = await shared_connection.fetchrow("SELECT status, duration_seconds FROM calls")
    assert tuple(row) == ("completed", Decimal("47.000"))
