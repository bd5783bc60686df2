"""What the fixtures of telnyx become."""

from datetime import UTC, datetime

from tests.unit.expectations.base import Expected

OURS, PEER = "+33644601234", "+33612345678"
IN = {
    "source": "telnyx", "message_id": "84cca175-9755-4859-b67f-4730d7f58aa3", "provider": "telnyx", "channel": "sms",
    "direction": "inbound", "sender": PEER, "recipient": OURS, "our_number": OURS, "peer_number": PEER,
}  # fmt: skip
OUT = {
    "source": "telnyx", "message_id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c", "provider": "telnyx", "channel": "sms",
    "direction": "outbound", "sender": OURS, "recipient": PEER, "our_number": OURS, "peer_number": PEER, "kind": "text",
    "body": "RDV confirme", "is_opt_out": False, "sent_at": datetime(2025, 6, 26, 9, 45, 13, 596000, UTC),
    "occurred_at": datetime(2025, 6, 26, 9, 45, 13, 552000, UTC),
}  # fmt: skip
DELIVERED = {
    **OUT, "status": "delivered", "error_code": None, "error_message": None, "failed_at": None,
    "delivered_at": datetime(2025, 6, 26, 9, 45, 15, 148000, UTC),
}  # fmt: skip
CALL = {
    "source": "telnyx", "call_id": "63e33fb6-e29f-11ee-815b-02420a0d0870", "provider": "telnyx", "caller": PEER,
    "callee": OURS, "duration_seconds": None, "started_at": datetime(2025, 6, 26, 10, 0, 9, 931675, UTC),
}  # fmt: skip

EXPECTED: Expected = {
    "telnyx/message.received.json": [("messages", {
        **IN, "kind": "text", "body": "Bonjour c'est Zoé 👋", "status": "received", "is_opt_out": False,
        "sent_at": None, "occurred_at": datetime(2025, 6, 26, 9, 43, 20, 91000, UTC)})],
    "telnyx/message.sent.json": [("messages", {**OUT, "status": "sent", "delivered_at": None, "failed_at": None})],
    "telnyx/message.finalized.delivered.json": [("messages", DELIVERED)],
    "telnyx/message.finalized.delivered.attempt2.json": [("messages", DELIVERED)],
    "telnyx/message.finalized.failed.json": [("messages", {
        **OUT, "status": "failed", "error_code": "40008", "delivered_at": None,
        "error_message": "The recipient carrier did not accept the message.",
        "failed_at": datetime(2025, 6, 26, 9, 45, 16, 2000, UTC)})],
    "telnyx/call.initiated.json": [("calls", {
        **CALL, "direction": "inbound", "status": "ringing", "answered_at": None, "ended_at": None})],
    "telnyx/call.answered.json": [("calls", {
        **CALL, "direction": None, "status": "answered", "ended_at": None,
        "answered_at": datetime(2025, 6, 26, 10, 0, 16, 335947, UTC)})],
    # The view makes it `completed` once the answer is there: floor(128.784063) = 128 seconds.
    "telnyx/call.hangup.json": [("calls", {
        **CALL, "direction": None, "status": "no-answer", "end_reason": "normal_clearing", "answered_at": None,
        "ended_at": datetime(2025, 6, 26, 10, 2, 25, 120010, UTC)})],
}  # fmt: skip
