"""What the fixtures of whatsapp become."""

from tests.unit.expectations.base import Expected, at

WA_OUT = {
    "source": "whatsapp", "message_id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI5QkMwRTU3N0I5RDg0RTVFMEQA",
    "provider": "whatsapp", "channel": "whatsapp", "direction": "outbound", "sender": "+15550783881",
    "recipient": "+16505551234", "our_number": "+15550783881", "peer_number": "+16505551234", "is_opt_out": False,
}  # fmt: skip
BATCH = "wamid.HBgLMTY1MDM4Nzk0MzkVAgABATCH"

EXPECTED: Expected = {
    "whatsapp/message.text.json": [("messages", {
        "source": "whatsapp", "message_id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=",
        "provider": "whatsapp", "channel": "whatsapp", "direction": "inbound", "sender": "+16505551234",
        "recipient": "+15550783881", "our_number": "+15550783881", "peer_number": "+16505551234", "kind": "text",
        "body": "Ça existe dans une autre couleur ? https://ex.co/a", "status": "received", "is_opt_out": False,
        "occurred_at": at(1749416383)})],
    "whatsapp/message.image.json": [("messages", {"kind": "image", "body": "Voici le reçu", "status": "received"})],
    "whatsapp/message.interactive_button_reply.json": [("messages", {"kind": "interactive", "body": "Confirmer"})],
    "whatsapp/message.unsupported.json": [("messages", {"kind": "unsupported", "error_code": "131051"})],
    # A user with a username may come without a number.
    "whatsapp/message.text.bsuid_no_phone.json": [("messages", {
        "kind": "text", "body": "Hello", "sender": None, "peer_number": None, "recipient": "+15550783881"})],
    # Two accounts in one delivery; a template's approval is no message.
    "whatsapp/batch.multi_entry.json": [
        ("messages", {"message_id": f"{BATCH}0001", "direction": "inbound", "body": "one", "our_number": "+15550783881"}),
        ("messages", {"message_id": f"{BATCH}0002", "direction": "inbound", "body": "two", "peer_number": "+33612345678"}),
        ("messages", {"message_id": f"{BATCH}OUT1", "status": "delivered", "delivered_at": at(1750857601)}),
        ("messages", {"message_id": f"{BATCH}OUT1", "status": "read", "read_at": at(1750857602), "delivered_at": None}),
        ("messages", {"message_id": f"{BATCH}OUT2", "status": "sent", "our_number": "+33180000000",
                      "peer_number": "+33687654321"})],
    "whatsapp/status.sent.json": [("messages", {
        **WA_OUT, "status": "sent", "sent_at": at(1750857384), "occurred_at": at(1750857384)})],
    "whatsapp/status.delivered.json": [("messages", {
        **WA_OUT, "status": "delivered", "sent_at": None, "delivered_at": at(1750857384), "occurred_at": at(1750857384)})],
    "whatsapp/status.read.json": [("messages", {
        **WA_OUT, "status": "read", "read_at": at(1750857522), "occurred_at": at(1750857522)})],
    "whatsapp/status.failed.json": [("messages", {
        **WA_OUT, "status": "failed", "error_code": "131047", "failed_at": at(1750857390)})],
}  # fmt: skip
