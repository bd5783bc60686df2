"""What the fixtures of twilio become."""

from datetime import UTC, datetime
from decimal import Decimal

from tests.unit.expectations.base import Expected, at

TW_OUT = {
    "source": "twilio", "provider": "twilio", "channel": "sms", "direction": "outbound", "sender": "+33644601234",
    "recipient": "+33612345678", "our_number": "+33644601234", "peer_number": "+33612345678", "is_opt_out": False,
}  # fmt: skip
CALL = {
    "source": "twilio", "provider": "twilio", "direction": "outbound", "caller": "+33644601234",
    "callee": "+33612345678",
}  # fmt: skip

EXPECTED: Expected = {
    "twilio/sms.inbound.form": [("messages", {
        "source": "twilio", "message_id": "SM1f0e8ae6ade43cb3c0ce4525424e404f", "provider": "twilio", "channel": "sms",
        "direction": "inbound", "sender": "+33612345678", "recipient": "+33644601234", "our_number": "+33644601234",
        "peer_number": "+33612345678", "kind": "text", "body": "Bonjour, c'est Zoé 👋 & co + 100%",
        "status": "received", "is_opt_out": False})],
    "twilio/mms.inbound.form": [("messages", {"channel": "mms", "kind": "image", "status": "received"})],
    "twilio/sms.status.queued.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4099", "status": "queued", "sent_at": None})],
    "twilio/sms.status.sent.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4099", "status": "sent", "sent_at": None})],
    "twilio/sms.status.failed_21614.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4014", "status": "failed", "error_code": "21614"})],
    "twilio/sms.status.delivered.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4099", "status": "delivered"})],
    "twilio/sms.status.undelivered_30007.form": [("messages", {
        **TW_OUT, "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4030", "status": "undelivered", "error_code": "30007"})],
    "twilio/eventstreams.message.delivered.json": [("messages", {
        "message_id": "SM7b0e8ae6ade43cb3c0ce4525424e4099", "status": "delivered",
        "delivered_at": datetime(2025, 6, 25, 13, 15, 44, tzinfo=UTC)})],
    "twilio/voice.status.initiated.form": [("calls", {
        **CALL, "call_id": "CA5ef8732a3c49700934481addd5ce1659", "status": "ringing", "started_at": at(1750929242)})],
    "twilio/voice.status.ringing.form": [("calls", {**CALL, "status": "ringing", "started_at": at(1750929243)})],
    "twilio/voice.status.in-progress.form": [("calls", {**CALL, "status": "answered", "answered_at": at(1750929251)})],
    "twilio/voice.status.completed.form": [("calls", {
        **CALL, "status": "completed", "duration_seconds": Decimal("129.000"), "ended_at": at(1750929380)})],
    "twilio/voice.status.no-answer.form": [("calls", {
        **CALL, "status": "no-answer", "duration_seconds": Decimal("0.000"), "ended_at": at(1750929631)})],
    "twilio/voice.inbound.form": [("calls", {
        "source": "twilio", "provider": "twilio", "direction": "inbound", "caller": "+33612345678",
        "callee": "+33644601234", "status": "ringing"})],
}  # fmt: skip
