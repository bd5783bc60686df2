"""What the fixtures of sendgrid become."""

from tests.unit.expectations.base import Expected, at

MAIL = {
    "source": "sendgrid", "message_id": "LRzXl_NHStOGhQ4kofSm_A", "provider": "sendgrid", "channel": "email",
    "direction": "outbound", "sender": None, "recipient": None, "status_recipient": "zoe@example.com", "our_number": None, "peer_number": None,
    "kind": None, "body": None, "error_code": None, "error_message": None, "is_opt_out": False,
}  # fmt: skip

EXPECTED: Expected = {
    "sendgrid/events.batch.json": [
        ("messages", {**MAIL, "status": "sent", "sent_at": at(1750929240), "occurred_at": at(1750929240)}),
        ("messages", {**MAIL, "status": "delivered", "delivered_at": at(1750929242), "occurred_at": at(1750929242)}),
        ("messages", {**MAIL, "status": "read", "read_at": at(1750929300), "occurred_at": at(1750929300)})],
}  # fmt: skip
