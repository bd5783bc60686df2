"""Design §6 by hand: the read models after all fixtures of a provider, with the columns that several of them make up."""

from datetime import UTC, datetime
from decimal import Decimal

from tests.support.story import World


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2025-{text}").replace(tzinfo=UTC)


STRIPE, TWILIO, WHATSAPP, TELNYX = World(), World(), World(), World()
AIRCALL, RETELL, HUBSPOT, SENDGRID = World(), World(), World(), World()
VIEWS: dict[str, World] = {
    "stripe": STRIPE,
    "twilio": TWILIO,
    "whatsapp": WHATSAPP,
    "telnyx": TELNYX,
    "aircall": AIRCALL,
    "retell": RETELL,
    "hubspot": HUBSPOT,
    "sendgrid": SENDGRID,
    "standardwebhooks": World(),
    "google_calendar": World(),
}

ZOE, SUBSCRIPTION, INTENT = "cus_SJ4kq0Zf2wXb7d", "sub_1RQ8vWLkdIwHu7ixq3b0m2Xy", "pi_3RR1dBLkdIwHu7ix1kYw2mQe"
STRIPE.expect("subscriptions", ("stripe", SUBSCRIPTION), status="canceled", cancel_at_period_end=True, customer_id=ZOE,
              event_created=at("07-20T09:40:03"), current_period_end=at("07-20T09:40"))  # fmt: skip
STRIPE.expect("invoices", ("stripe", "in_1RbNz3LkdIwHu7ixF4iLed01"), status="open", amount_paid=0, attempt_count=1,
              paid_at=None, last_failed_at=at("06-20T10:40:24"), subscription_id=SUBSCRIPTION)  # fmt: skip
STRIPE.expect("invoices", ("stripe", "in_1RbNz3LkdIwHu7ixW6bB2cYk"), status="paid", amount_paid=5880, attempt_count=1,
              paid_at=at("06-20T10:40:22"), last_failed_at=None, subscription_id=SUBSCRIPTION)  # fmt: skip
# Half of the fixtures tell of a checkout that was paid, one of the same checkout unpaid: no status is right.
STRIPE.expect("payments", ("stripe", INTENT), amount=2500, amount_refunded=2500, client_reference_id="ten_01JV7Q0S3M",
              purpose="credit_purchase", occurred_at=at("05-22T17:52:19"))  # fmt: skip
# The refund of 1000 has events of its own; that the rest was refunded as well, only the charge says.
STRIPE.expect("refunds", ("stripe", "re_3RR1dBLkdIwHu7ix1sGx4lq8"), payment_intent_id=INTENT, amount=1000,
              status="succeeded", occurred_at=at("05-24T15:19:59"))  # fmt: skip
STRIPE.expect("credit_entries", ("stripe", INTENT), kind="purchase", credits=500, credits_refunded=500, customer_id=ZOE)
STRIPE.expect("accounts", ("stripe", ZOE), is_frozen=True, frozen_reason="invoice_payment_failed", credit_balance=0,
              subscription_id=SUBSCRIPTION, subscription_status="canceled")  # fmt: skip

OURS, PEER, AMERICA = "+33644601234", "+33612345678", ("+14155552671", "+14158675309")
for number, status, error in (
    ("4099", "delivered", None),
    ("4014", "failed", "21614"),
    ("4030", "undelivered", "30007"),
):
    key = ("twilio", f"SM7b0e8ae6ade43cb3c0ce4525424e{number}")
    TWILIO.expect("messages", key, status=status, error_code=error, our_number=OURS, peer_number=PEER, sent_at=None,
                  delivered_at=at("06-25T13:15:44") if status == "delivered" else None)  # fmt: skip
TWILIO.expect("messages", ("twilio", "SM1f0e8ae6ade43cb3c0ce4525424e404f"), status="received", direction="inbound")
TWILIO.expect("messages", ("twilio", "MMaa0e8ae6ade43cb3c0ce4525424e404f"), status="received", kind="image")
TWILIO.expect("conversations", ("twilio", "sms", OURS, PEER), inbound=1, outbound=3, last_inbound_at=None)
TWILIO.expect("conversations", ("twilio", "mms", *AMERICA), inbound=1, outbound=0, last_outbound_at=None)
TWILIO.expect("calls", ("twilio", "CA5ef8732a3c49700934481addd5ce1659"), status="completed", duration_seconds=129,
              talk_seconds=129, started_at=at("06-26T09:14:02"), answered_at=at("06-26T09:14:11"))  # fmt: skip
TWILIO.expect("calls", ("twilio", "CA5ef8732a3c49700934481addd5ce1600"), status="no-answer", duration_seconds=0)
TWILIO.expect("calls", ("twilio", "CA5ef8732a3c49700934481addd5ce1611"), status="ringing", direction="inbound")

WAMID, US = "wamid.HBgLMTY1MDM4Nzk0MzkVAg", "+15550783881"
# The fixtures have this one fail and be read: what is read did arrive.
WHATSAPP.expect("messages", ("whatsapp", WAMID + "ARGBI5QkMwRTU3N0I5RDg0RTVFMEQA"), status="read", error_code=None,
                sent_at=at("06-25T13:16:24"), delivered_at=at("06-25T13:16:24"), read_at=at("06-25T13:18:42"),
                failed_at=at("06-25T13:16:30"), occurred_at=at("06-25T13:16:24"))  # fmt: skip
WHATSAPP.expect("messages", ("whatsapp", WAMID + "ABATCHOUT1"), status="read", sent_at=None,
                delivered_at=at("06-25T13:20:01"), read_at=at("06-25T13:20:02"))  # fmt: skip
WHATSAPP.expect("messages", ("whatsapp", WAMID + "ABATCHOUT2"), status="sent", our_number="+33180000000")
for name in ("ABATCH0001", "ABATCH0002", "ASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=", "ASGBQzQUFGRjY4N0I2NzM4QTQyQTU0MwA=",
             "ASGBQzQUI4RTIwOTkyRDJFQTU2RTA5MQA=", "ASGBRCMDcyRDU4N0E1RjQxRkQ0QzE5MAA="):  # fmt: skip
    WHATSAPP.expect("messages", ("whatsapp", WAMID + name), status="received", direction="inbound", our_number=US)
# Of somebody without a number: it is in no conversation.
NAMELESS = ("whatsapp", "wamid.HBgVVVMuMTM0OTEyMDg2NTUzMDI3NDE5MTgVAgASGBQzQTRB")
WHATSAPP.expect("messages", NAMELESS, status="received", body="Hello", peer_number=None)
WHATSAPP.expect("conversations", ("whatsapp", "whatsapp", US, "+16505551234"), inbound=5, outbound=2,
                last_inbound_at=at("06-25T13:20:00"), last_outbound_at=at("06-25T13:20:01"))  # fmt: skip
WHATSAPP.expect("conversations", ("whatsapp", "whatsapp", US, PEER), inbound=1, outbound=0, last_outbound_at=None)
WHATSAPP.expect("conversations", ("whatsapp", "whatsapp", "+33180000000", "+33687654321"), inbound=0, outbound=1)

TELNYX.expect("messages", ("telnyx", "84cca175-9755-4859-b67f-4730d7f58aa3"), status="received", direction="inbound")
TELNYX.expect("messages", ("telnyx", "ac012cbf-5e09-46af-a69a-7c0e2d90993c"), status="delivered", error_code=None)
TELNYX.expect("conversations", ("telnyx", "sms", OURS, PEER), inbound=1, outbound=1)
TELNYX.expect("calls", ("telnyx", "63e33fb6-e29f-11ee-815b-02420a0d0870"), direction="inbound", status="completed",
              duration_seconds=128, talk_seconds=Decimal("128.784"), end_reason="normal_clearing")  # fmt: skip

AIRCALL.expect("calls", ("aircall", "780836699"), status="ringing", direction="outbound", ended_at=None)
AIRCALL.expect("calls", ("aircall", "780883160"), status="completed", duration_seconds=160, talk_seconds=145)
AIRCALL.expect("calls", ("aircall", "780883999"), status="missed", duration_seconds=17, talk_seconds=None,
               ended_at=at("06-26T09:21:37"), end_reason="agents_did_not_answer")  # fmt: skip

RETELL.expect("calls", ("retell", "7c9f0e1a2b3c4d5e6f708192a3b4c5d6"), status="no-answer", duration_seconds=0)
RETELL.expect("calls", ("retell", "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6"), status="completed", sentiment="Positive",
              duration_seconds=Decimal("128.791"), summary="La cliente confirme son rendez-vous.")  # fmt: skip

CRM = ("hubspot", "62515")
HUBSPOT.expect("crm_objects", (*CRM, "deal", "9822112"), exists=True,
               properties={"dealstage": "closedwon", "amount": "1200"})  # fmt: skip
HUBSPOT.expect("crm_objects", (*CRM, "contact", "1246965"), exists=True,
               properties={"firstname": "Zoé", "lifecyclestage": "customer"})  # fmt: skip
for contact, exists in (("1246966", False), ("1246970", False), ("1246999", True)):
    HUBSPOT.expect("crm_objects", (*CRM, "contact", contact), exists=exists, properties={})
for turn in range(37):
    # The import is told out of order: each change is 7919 ms after the one before, within the same minute.
    last = max(range(turn, 100, 37), key=lambda change: change * 7919 % 60_000)
    phone = {"phone": f"+3361234{last:04d}"}
    HUBSPOT.expect("crm_objects", (*CRM, "contact", str(2000000 + turn)), exists=True, properties=phone)

SENDGRID.expect("messages", ("sendgrid", "LRzXl_NHStOGhQ4kofSm_A"), status="read", recipient="zoe@example.com", channel="email", failed_at=None,
                sent_at=at("06-26T09:14:00"), delivered_at=at("06-26T09:14:02"), read_at=at("06-26T09:15:00"))  # fmt: skip
