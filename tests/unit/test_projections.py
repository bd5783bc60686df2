"""Design §6: what each fixture becomes, written down by hand."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from processors.fold import Dead, Folded, fold_record
from schemas.facts import TABLES
from tests.support.records import FakeRecord, record, stripe_event

FIXTURES = Path(__file__).parents[1] / "fixtures"


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def of_fixture(name: str) -> FakeRecord:
    provider = name.partition("/")[0]
    is_form = name.endswith(".form")
    content_type = "application/x-www-form-urlencoded" if is_form else "application/json"
    signed_id = "msg_1" if provider == "standardwebhooks" else None
    body = (FIXTURES / name).read_bytes().rstrip(b"\n") if is_form else (FIXTURES / name).read_bytes()
    return record(f"webhooks.{provider}", provider, body, content_type=content_type, signed_id=signed_id)


def rows_of(one: FakeRecord) -> list[tuple[str, dict[str, Any]]]:
    """(table, columns that are known) of every fact."""
    folded = fold_record(one)
    assert isinstance(folded, Folded), folded
    return [
        (
            table.name,
            {
                column.name: value
                for column, value in zip(table.columns, row, strict=True)
                if not column.is_hidden and value is not None
            },
        )
        for table, row in folded.rows
    ]


SUB = {"source": "stripe", "subscription_id": "sub_1RQ8vWLkdIwHu7ixq3b0m2Xy"}
PAYMENT = {"source": "stripe", "payment_intent_id": "pi_3RR1dBLkdIwHu7ix1kYw2mQe"}
CUSTOMER = {"customer_id": "cus_SJ4kq0Zf2wXb7d"}
WA_OUT = {
    "source": "whatsapp", "message_id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI5QkMwRTU3N0I5RDg0RTVFMEQA",
    "provider": "whatsapp", "channel": "whatsapp", "direction": "outbound", "sender": "+15550783881",
    "recipient": "+16505551234", "our_number": "+15550783881", "peer_number": "+16505551234", "is_opt_out": False,
}  # fmt: skip
TW_OUT = {
    "source": "twilio", "provider": "twilio", "channel": "sms", "direction": "outbound", "sender": "+33644601234",
    "recipient": "+33612345678", "our_number": "+33644601234", "peer_number": "+33612345678", "is_opt_out": False,
}  # fmt: skip
CALL = {
    "source": "twilio", "provider": "twilio", "direction": "outbound", "caller": "+33644601234",
    "callee": "+33612345678",
}  # fmt: skip
PRO = {"price_id": "price_1QzT4bLkdIwHu7ixkVJ9eYtM"}
INVOICE = {
    "source": "stripe", **CUSTOMER, "subscription_id": SUB["subscription_id"], "currency": "eur", "amount_due": 5880,
    "attempt_count": 1, "created_at": at(1750412413),
}  # fmt: skip

EXPECTED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "stripe/customer.subscription.created.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "incomplete", "current_period_end": at(1750412400),
        "cancel_at_period_end": False, "event_created": at(1747734002), "event_id": "evt_1RQ8vZLkdIwHu7ixm1Gd0kWc"})],
    "stripe/customer.subscription.updated.legacy_2024-06-20.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "active", "current_period_end": at(1750412400),
        "cancel_at_period_end": False, "event_created": at(1747734002)})],
    "stripe/customer.subscription.deleted.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "canceled", "current_period_end": at(1753004400),
        "cancel_at_period_end": True, "event_created": at(1753004403)})],
    "stripe/invoice.payment_failed.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixF4iLed01", "status": "open", "amount_paid": 0,
        "last_failed_at": at(1750416024)})],
    "stripe/invoice.paid.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixW6bB2cYk", "status": "paid", "amount_paid": 5880,
        "paid_at": at(1750416022)})],
    "stripe/invoice.payment_succeeded.legacy_2024-06-20.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixW6bB2cYk", "status": "paid", "amount_paid": 5880,
        "paid_at": at(1750416022)})],
    "stripe/payment_intent.succeeded.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "purpose": "credit_purchase", "status": "succeeded", "amount": 2500,
                      "currency": "eur", "occurred_at": at(1747936339)}),
        ("credit_entries", {"source": "stripe", "entry_id": PAYMENT["payment_intent_id"], "kind": "purchase", **CUSTOMER,
                            "credits": 500, "amount": 2500, "occurred_at": at(1747936339)})],
    "stripe/checkout.session.completed.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "client_reference_id": "ten_01JV7Q0S3M", "purpose": "credit_purchase",
                      "status": "succeeded", "amount": 2500, "currency": "eur", "occurred_at": at(1747936340)})],
    "stripe/checkout.session.completed.unpaid_async.json": [
        ("payments", {**CUSTOMER, "status": "processing"})],
    "stripe/charge.refunded.partial.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "amount_refunded": 1000, "currency": "eur"})],
    "stripe/charge.refunded.full.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "amount_refunded": 2500, "currency": "eur"})],
    "stripe/refund.created.json": [],
    "stripe/v2.core.event.thin.json": [],
    "whatsapp/message.text.json": [("messages", {
        "source": "whatsapp", "message_id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=",
        "provider": "whatsapp", "channel": "whatsapp", "direction": "inbound", "sender": "+16505551234",
        "recipient": "+15550783881", "our_number": "+15550783881", "peer_number": "+16505551234", "kind": "text",
        "body": "Ça existe dans une autre couleur ? https://ex.co/a", "status": "received", "is_opt_out": False,
        "occurred_at": at(1749416383)})],
    "whatsapp/message.image.json": [("messages", {"kind": "image", "body": "Voici le reçu", "status": "received"})],
    "whatsapp/message.interactive_button_reply.json": [("messages", {"kind": "interactive", "body": "Confirmer"})],
    "whatsapp/message.unsupported.json": [("messages", {"kind": "unsupported", "error_code": "131051"})],
    "whatsapp/status.sent.json": [("messages", {
        **WA_OUT, "status": "sent", "sent_at": at(1750857384), "occurred_at": at(1750857384)})],
    "whatsapp/status.read.json": [("messages", {
        **WA_OUT, "status": "read", "read_at": at(1750857522), "occurred_at": at(1750857522)})],
    "whatsapp/status.failed.json": [("messages", {
        **WA_OUT, "status": "failed", "error_code": "131047", "failed_at": at(1750857390)})],
    "twilio/sms.inbound.form": [("messages", {
        "source": "twilio", "message_id": "SM1f0e8ae6ade43cb3c0ce4525424e404f", "provider": "twilio", "channel": "sms",
        "direction": "inbound", "sender": "+33612345678", "recipient": "+33644601234", "our_number": "+33644601234",
        "peer_number": "+33612345678", "kind": "text", "body": "Bonjour, c'est Zoé 👋 & co + 100%",
        "status": "received", "is_opt_out": False})],
    "twilio/mms.inbound.form": [("messages", {"channel": "mms", "kind": "image", "status": "received"})],
    "twilio/sms.status.delivered.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4099", "status": "delivered"})],
    "twilio/sms.status.undelivered_30007.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4030", "status": "undelivered", "error_code": "30007"})],
    "twilio/eventstreams.message.delivered.json": [("messages", {
        "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4099", "status": "delivered",
        "delivered_at": datetime(2025, 6, 25, 13, 15, 44, tzinfo=UTC)})],
    "twilio/voice.status.initiated.form": [("calls", {
        **CALL, "call_id": "CA5ef8732a3c49700934481addd5ce1659", "status": "ringing", "started_at": at(1750929242)})],
    "twilio/voice.status.in-progress.form": [("calls", {**CALL, "status": "answered", "answered_at": at(1750929251)})],
    "twilio/voice.status.completed.form": [("calls", {
        **CALL, "status": "completed", "duration_seconds": Decimal("129.000"), "ended_at": at(1750929380)})],
    "twilio/voice.status.no-answer.form": [("calls", {
        **CALL, "status": "no-answer", "duration_seconds": Decimal("0.000"), "ended_at": at(1750929631)})],
    "twilio/voice.inbound.form": [("calls", {
        "source": "twilio", "provider": "twilio", "direction": "inbound", "caller": "+33612345678",
        "callee": "+33644601234", "status": "ringing"})],
    "standardwebhooks/invoice.paid.json": [],
    "standardwebhooks/contact.created.json": [],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fixture_becomes_the_facts_that_the_design_says(name: str) -> None:
    actual = rows_of(of_fixture(name))
    expected = EXPECTED[name]
    assert [table for table, _ in actual] == [table for table, _ in expected]
    for (_, found), (_, wanted) in zip(actual, expected, strict=True):
        assert {column: found.get(column) for column in wanted} == wanted


def test_every_fixture_of_these_providers_is_read() -> None:
    """None is a dead letter, and each has an entry in the index."""
    for path in FIXTURES.glob("*/*"):
        if path.parent.name == "vectors" or path.name.endswith(".http.json"):
            continue
        folded = fold_record(of_fixture(f"{path.parent.name}/{path.name}"))
        assert isinstance(folded, Folded), path
        assert folded.events


def test_a_user_without_a_phone_number_is_a_message_all_the_same() -> None:
    ((_, row),) = rows_of(of_fixture("whatsapp/message.text.bsuid_no_phone.json"))
    assert (row["body"], row.get("sender"), row.get("peer_number")) == ("Hello", None, None)


def test_a_batch_is_one_record_with_an_event_for_each_of_its_updates() -> None:
    one = of_fixture("whatsapp/batch.multi_entry.json")
    folded = fold_record(one)
    assert isinstance(folded, Folded)
    assert one.key is not None
    assert one.key.startswith(b"batch:")
    assert [event.status for event in folded.events].count("applied") == 5
    assert [event.type for event in folded.events if event.status == "ignored"] == [
        "whatsapp.message_template_status_update"
    ]
    numbers = {row["our_number"] for _, row in rows_of(one)}
    assert numbers == {"+15550783881", "+33180000000"}


def test_statuses_of_one_second_are_ordered_by_rank() -> None:
    """WhatsApp sends `sent` and `delivered` within one second; whichever comes last must not win."""
    messages = next(table for table in TABLES if table.name == "messages")
    sent, delivered = (fold_record(of_fixture(f"whatsapp/status.{name}.json")) for name in ("sent", "delivered"))
    assert isinstance(sent, Folded)
    assert isinstance(delivered, Folded)
    joined = messages.join(delivered.rows[0][1], sent.rows[0][1])
    columns = dict(zip((c.name for c in messages.columns), joined, strict=True))
    assert (columns["status"], columns["sent_at"], columns["delivered_at"]) == (
        "delivered",
        at(1750857384),
        at(1750857384),
    )


def purchase(**changes: Any) -> FakeRecord:
    data = {
        "id": "pi_1",
        "status": "succeeded",
        "amount": 100,
        "currency": "eur",
        "customer": "cus_1",
        "metadata": {"type": "credit_purchase", "credits": "5"},
        **changes,
    }
    return record("webhooks.stripe", "stripe", stripe_event("evt_1", "payment_intent.succeeded", data))


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0},
        *(
            {"metadata": {"type": "credit_purchase", "credits": credits}}
            for credits in ("0", "-5", "1.5", "", "٣", "x")
        ),
        {"metadata": {"type": "credit_purchase"}},
    ],
    ids=str,
)
def test_a_purchase_without_countable_credits_is_ignored_with_an_error(changes: dict[str, Any]) -> None:
    folded = fold_record(purchase(**changes))
    assert isinstance(folded, Folded)
    assert (folded.events[0].status, bool(folded.events[0].error)) == ("ignored", True)
    assert [table.name for table, _ in folded.rows] == ["payments"], "the money was paid nevertheless"


def usage(**changes: Any) -> FakeRecord:
    data = {"id": "use_1", "customer": "cus_1", "credits": 3, "source": "stripe", **changes}
    body = json.dumps({"type": "credits.used", "timestamp": "2026-01-01T00:00:00Z", "data": data}).encode()
    return record("webhooks.standardwebhooks", "standardwebhooks", body, signed_id="msg_1")


def test_credits_used_are_negative_and_belong_to_the_source_of_the_account() -> None:
    ((table, row),) = rows_of(usage())
    assert table == "credit_entries"
    assert (row["source"], row["entry_id"], row["credits"], row["kind"]) == ("stripe", "use_1", -3, "usage")


@pytest.mark.parametrize(
    "changes", [{"credits": 0}, {"credits": "3"}, {"credits": -1}, {"source": None}, {"id": ""}], ids=str
)
def test_usage_that_does_not_follow_its_schema_is_ignored_with_an_error(changes: dict[str, Any]) -> None:
    folded = fold_record(usage(**changes))
    assert isinstance(folded, Folded)
    assert (folded.events[0].status, folded.rows) == ("ignored", ())
    assert folded.events[0].error


@pytest.mark.parametrize(("word", "is_opt_out"), [("STOP", True), (" stop ", True), ("Stop it", False), ("", False)])
def test_stop_is_an_opt_out_only_alone(word: str, is_opt_out: bool) -> None:
    from urllib.parse import urlencode

    body = urlencode({"MessageSid": "SM1", "SmsStatus": "received", "From": "+1", "To": "+2", "Body": word}).encode()
    ((_, row),) = rows_of(record("webhooks.twilio", "twilio", body, content_type="application/x-www-form-urlencoded"))
    assert row["is_opt_out"] is is_opt_out


def test_a_bug_in_a_projection_kills_its_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from processors.projections import PROJECTIONS

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setitem(PROJECTIONS, "stripe", broken)  # type: ignore[arg-type]
    dead = fold_record(purchase())
    assert isinstance(dead, Dead)
    assert dead.reason == "projection_failed"
