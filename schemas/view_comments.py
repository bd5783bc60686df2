"""The comments of each read model and fact table, and of their columns, with their units. See `comments`."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Commented(NamedTuple):
    """A table or view, and its columns by name."""

    text: str
    columns: Mapping[str, str]


EVERYWHERE: Final = {
    "source": "the configured source that received it",
    "provider": "the provider of the source, such as stripe",
    "customer_id": "the customer's id at the provider",
    "client_reference_id": "our own id of the customer, from checkout.session.completed",
    "subscription_id": "the subscription's id at the provider",
    "invoice_id": "the invoice's id at the provider",
    "payment_intent_id": "the payment intent's id at the provider",
    "charge_id": "the charge's id at the provider",
    "currency": "ISO 4217 code, lower case; NULL where no event said it",
    "occurred_at": "the earliest time that the provider gave for it",
    "channel": "sms, mms, whatsapp, email, rcs or messenger; NULL for any other",
    "direction": "inbound or outbound",
    "our_number": "our address: a phone number as E.164 with +, or as it came where the channel has no numbers",
    "peer_number": "the other side's address, as our_number; in a WhatsApp group the group's id",
    "portal_id": "the HubSpot account",
    "object_type": "contact, company, deal and so on; HubSpot's id of a type that has no name",
    "object_id": "the object's id at HubSpot",
}
"""Columns that mean the same wherever they are."""

VIEWS: Final[dict[str, Commented]] = {
    "messages": Commented(
        "Messages, one row each. A status may create the row before its message comes.",
        {
            "message_id": "the message's id at the provider",
            "sender": "who sent it; a phone number as E.164 with +",
            "recipient": "who gets it; of an e-mail to several people, the one whose status is shown",
            "kind": "text, image, audio, video, document, or the provider's own kind",
            "body": "the text or the caption, of the latest edit where there is one",
            "status": "the furthest: accepted < scheduled < queued < sending < sent < canceled < failed < undelivered"
            " < delivered < read; inbound: receiving < received",
            "error_code": "the provider's code, of the event that won the status",
            "error_message": "the provider's words, of the event that won the status",
            "is_opt_out": "whether it is an inbound STOP or one of its synonyms",
            "sent_at": "the provider's time; NULL where it gives none",
            "delivered_at": "the provider's time; NULL where it gives none",
            "read_at": "the provider's time; NULL where it gives none",
            "failed_at": "the provider's time; NULL where it gives none",
            "edited_at": "the provider's time of the latest edit",
            "revoked_at": "when its author took it back; body stays",
            "reaction": "the other side's latest reaction; NULL once it is taken back",
        },
    ),
    "conversations": Commented(
        "Conversations, counted from the messages that have both numbers.",
        {
            "inbound": "messages from the other side",
            "outbound": "messages from us",
            "last_inbound_at": "when the latest inbound message occurred",
            "last_outbound_at": "when the latest outbound message occurred",
        },
    ),
    "subscriptions": Commented(
        "Subscriptions, as the latest event or a later correction says.",
        {
            "status": "the provider's word, or an operator's until a later event",
            "price_id": "of several items, the first that [price_tiers] of redrive.toml names, else the first",
            "current_period_end": "when the paid period ends",
            "cancel_at_period_end": "whether it ends with the period",
            "event_created": "when the event that won was created; or the correction",
            "event_id": "the event that won, or the correction",
        },
    ),
    "invoices": Commented(
        "Invoices, one row each.",
        {
            "status": "the furthest: draft < open < uncollectible < void < paid",
            "amount_due": "in the currency's smallest unit",
            "amount_paid": "in the currency's smallest unit",
            "attempt_count": "tries to collect it, the greatest number reported",
            "created_at": "the provider's time",
            "last_failed_at": "of the latest invoice.payment_failed",
            "paid_at": "when it was paid",
        },
    ),
    "payments": Commented(
        "Payment intents, with what was given back of them.",
        {
            "purpose": "metadata `type`: credit_purchase where the intent or its checkout session says so",
            "status": "the provider's word, of the latest event",
            "amount": "in the currency's smallest unit",
            "amount_refunded": "in the currency's smallest unit, with what was never captured",
            "failure_code": "the provider's code, of the event that won the status",
            "amount_received": "captured of amount, in the currency's smallest unit",
            "succeeded_at": "of payment_intent.succeeded",
            "amount_lost": "in disputes that are lost, in the currency's smallest unit",
        },
    ),
    "refunds": Commented(
        "Refunds of payments. One that failed or was canceled gives nothing back.",
        {
            "refund_id": "the refund's id at the provider",
            "status": "the furthest: pending < requires_action < succeeded < canceled < failed",
            "amount": "in the currency's smallest unit",
            "failure_reason": "the provider's word",
        },
    ),
    "disputes": Commented(
        "Disputes of payments. Only one that is lost costs credits.",
        {
            "dispute_id": "the dispute's id at the provider",
            "status": "the provider's word, of the latest event",
            "amount": "in the currency's smallest unit",
            "reason": "the provider's word",
        },
    ),
    "credit_entries": Commented(
        "Credits bought, used or adjusted: the entries of which balances are the sums.",
        {
            "entry_id": "the payment intent of a purchase, the id of a usage, correction:<id> of an adjustment",
            "kind": "purchase, usage or adjustment",
            "credits": "bought: positive; used: negative; adjusted: either",
            "credits_refunded": "credits given back of a purchase, rounded down; 0 for others",
            "reason": "of a usage or an adjustment",
        },
    ),
    "unassigned_purchases": Commented(
        "Credits that were paid and are in nobody's balance. A row goes once an event says what is missing.",
        {
            "amount": "in the currency's smallest unit",
            "occurred_at": "when it was paid",
            "problem": "no_customer, no_credits, no_amount, no_payment_intent; several are separated by commas",
        },
    ),
    "conflicting_usages": Commented(
        "Usages that have one id and are not the same. The entry shows the latest; the others are in no balance.",
        {
            "entry_id": "the id that the usages share",
            "credits": "of the latest, negative",
            "occurred_at": "the earliest time of them",
            "last_occurred_at": "the latest time of them",
            "first_sender": "of the sources that announced them, the first by name",
            "last_sender": "of the sources that announced them, the last by name",
            "problem": "several_senders, several_contents; both are separated by a comma",
        },
    ),
    "credits": Commented(
        "The balance of every customer with an entry.",
        {
            "balance": "credits less credits_refunded of all entries; may be negative",
            "used_30d": "credits used in the last 30 days, positive",
            "updated_at": "when the latest entry occurred",
        },
    ),
    "accounts": Commented(
        "Every customer that an event or a correction has named.",
        {
            "is_frozen": "whether the account is frozen",
            "frozen_reason": "invoice_payment_failed, subscription_unpaid, subscription_canceled or operator",
            "frozen_at": "since when, for that reason",
            "subscription_id": "the subscription that counts",
            "subscription_status": "its status",
            "subscription_tier": "the name of its price in [price_tiers] of redrive.toml",
            "current_period_end": "when its paid period ends",
            "credit_balance": "credits; 0 without an entry",
        },
    ),
    "calls": Commented(
        "Phone calls, one row each.",
        {
            "call_id": "the call's id at the provider",
            "caller": "who called; a phone number as E.164 with +",
            "callee": "who was called; a phone number as E.164 with +",
            "status": "the furthest: ringing < answered < canceled < no-answer < busy < failed < missed < completed",
            "started_at": "the provider's time, the earliest",
            "answered_at": "the provider's time, the earliest",
            "ended_at": "the provider's time, the earliest",
            "duration_seconds": "seconds, as the provider says at the end; of Telnyx from answer to end",
            "talk_seconds": "seconds from answer to end",
            "end_reason": "the provider's word",
            "recording_url": "where the recording is; such links may end",
            "summary": "the provider's summary of the call",
            "sentiment": "the provider's word for the mood",
        },
    ),
    "crm_objects": Commented(
        "HubSpot's objects, from their changes.",
        {
            "exists": "false once the latest of creation, restore and deletion is a deletion",
            "properties": "name to value of its latest change; null where it was cleared",
            "properties_left_out": "how many are not among the properties: the largest, beyond 16 MiB in all",
        },
    ),
    "contact_preferences": Commented(
        "The categories that a person lets one of our numbers send.",
        {
            "category": "marketing_messages for WhatsApp",
            "value": "the latest: stop or resume",
            "is_opted_out": "whether the value is stop",
            "changed_at": "the provider's time of the latest change",
        },
    ),
    "webhook_events": Commented(
        "The index of the log: one row per event, at its earliest location. Not a read model.",
        {
            "source": "the source whose topic holds it",
            "event_id": "the event's id, parts percent-encoded and joined with :",
            "type": "the event's type, such as stripe.invoice.paid",
            "occurred_at": "the provider's time",
            "received_at": "when the ingress took it",
            "topic": "the topic of its earliest record",
            "partition": "the partition of that record",
            "record_offset": "the offset of that record",
            "status": "the best outcome at any location: dead < ignored < applied",
            "error": "why it is dead or ignored",
            "repeats": "further records of the event",
            "conflicts": "further contents under one record id",
        },
    ),
}
FACTS: Final[dict[str, Commented]] = {
    "messages": Commented(
        "",
        {
            "status_recipient": "of an e-mail to several people, whose status it is",
            "edited_body": "the text of the latest edit; empty where that took it away",
            "reacted_at": "when the reaction was given or taken back",
        },
    ),
    "subscriptions": Commented("", {"price_ids": "the prices of several items, one a line"}),
    "invoices": Commented("", {"given_up_at": "when it was last voided or marked uncollectible"}),
    "payments": Commented(
        "",
        {
            "amount_refunded": "the greatest figure of its charge, in the currency's smallest unit",
            "charge_refunded": "the last figure of its charge, in the currency's smallest unit",
            "charge_knows_until": "charge_refunded counts no refund that had failed by then",
            "checkout_purpose": "metadata `type` of the checkout session",
        },
    ),
    "refunds": Commented("", {"undone_at": "when an event first said that it failed or was canceled"}),
    "credit_entries": Commented(
        "",
        {
            "amount": "captured for a purchase, in the currency's smallest unit",
            "checkout_credits": "credits in the metadata of the checkout session",
            "first_sender": "of the sources that announced the usage, the first by name",
            "last_sender": "of the sources that announced the usage, the last by name",
            "last_occurred_at": "the latest time that an event gives the usage",
        },
    ),
    "account_corrections": Commented(
        "Operators' corrections of accounts.",
        {
            "is_frozen": "whether it was frozen or unfrozen",
            "corrected_at": "when it was corrected",
            "event_id": "the correction",
        },
    ),
    "subscription_corrections": Commented(
        "Operators' corrections of subscriptions.",
        {
            "status": "the corrected status",
            "corrected_at": "when it was corrected",
            "event_id": "the correction",
            "current_period_end": "the corrected end of the period",
            "period_corrected_at": "when that was corrected",
        },
    ),
    "crm_properties": Commented(
        "The properties of HubSpot's objects, one row each.",
        {"name": "the property's name", "is_set": "always true", "value": "its value; NULL where it was cleared"},
    ),
}
"""Columns of fact tables that their views do not show, or show otherwise; and tables that have no view."""
