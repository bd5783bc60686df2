"""The fact tables: every column with the policy that merges it. The views over them are in `views.sql`.

Those of subscriptions, payments and credits are declared in `billing.py`.
To add a table: declare its facts here, add it to `TABLES`, give it a view, and yield its facts from a projection. A
plug-in's comes in through `register`.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from schemas.billing import (
    AccountCorrection,
    CreditEntry,
    Dispute,
    Invoice,
    Payment,
    Refund,
    Subscription,
    SubscriptionCorrection,
)
from schemas.contact_facts import ContactPreference, CrmObject, CrmProperty
from schemas.errors import Misconfigured
from schemas.lattice import Constant, Fact, Key, Latest, Max, Min, Policy, Ranked, Table

MESSAGE_STATUSES: Final = (
    "accepted",
    "scheduled",
    "queued",
    "sending",
    "sent",
    "canceled",
    "failed",
    "undelivered",
    "delivered",
    "read",
    "receiving",
    "received",
)
"""Outbound, then inbound; a message has statuses of one direction only, so one sequence serves both."""

BOUNCED: Final = "bounced"
"""An e-mail came back, maybe after it was delivered or opened: its outcome, which the view shows as `failed`."""

CHANNELS: Final = ("sms", "mms", "whatsapp", "email", "rcs", "messenger")
"""Not every event knows: Twilio's Event Streams call a WhatsApp message what its id looks like."""

CALL_STATUSES: Final = (
    "ringing",
    "answered",
    "canceled",
    "no-answer",
    "busy",
    "failed",
    "missed",
    "completed",
)

_MessageStatus = Latest("status", ranks=(*MESSAGE_STATUSES, BOUNCED))
_MessageIdentity = Latest("identity")
_MessageContent = Latest("content")
_MessageEdit = Latest("edit")
_MessageReaction = Latest("reaction")
_CallIdentity = Latest("identity")
_CallOutcome = Latest("outcome", ranks=CALL_STATUSES)
_CallAnalysis = Latest("analysis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Fact):
    """A message, one of its statuses, or what was done to it later. Phone numbers are E.164; `*_at` are the provider's
    times. `edited_body` and `reaction` are empty where the text or the reaction was taken away.

    `status_recipient`: where one message goes to several people, whose the status is; `recipient` is NULL then.
    """

    source: Annotated[str, Key()]
    message_id: Annotated[str, Key()]
    provider: Annotated[str | None, _MessageIdentity] = None
    channel: Annotated[str | None, Ranked(CHANNELS)] = None
    direction: Annotated[str | None, _MessageIdentity] = None
    sender: Annotated[str | None, Constant()] = None
    recipient: Annotated[str | None, Constant()] = None
    our_number: Annotated[str | None, Constant()] = None
    peer_number: Annotated[str | None, Constant()] = None
    kind: Annotated[str | None, _MessageContent] = None
    body: Annotated[str | None, _MessageContent] = None
    status: Annotated[str | None, _MessageStatus] = None
    error_code: Annotated[str | None, _MessageStatus] = None
    error_message: Annotated[str | None, _MessageStatus] = None
    status_recipient: Annotated[str | None, _MessageStatus] = None
    is_opt_out: Annotated[bool, Max()] = False
    sent_at: Annotated[datetime | None, Min()] = None
    delivered_at: Annotated[datetime | None, Min()] = None
    read_at: Annotated[datetime | None, Min()] = None
    failed_at: Annotated[datetime | None, Min()] = None
    occurred_at: Annotated[datetime | None, Min()] = None
    edited_body: Annotated[str | None, _MessageEdit] = None
    edited_at: Annotated[datetime | None, _MessageEdit] = None
    revoked_at: Annotated[datetime | None, Min()] = None
    reaction: Annotated[str | None, _MessageReaction] = None
    reacted_at: Annotated[datetime | None, _MessageReaction] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Fact):
    """A phone call. Durations are seconds; the outcome's rank decides between statuses, not their times.

    Telnyx says neither status nor duration: the view derives both from the times (`duration_seconds` stays None).
    """

    source: Annotated[str, Key()]
    call_id: Annotated[str, Key()]
    provider: Annotated[str | None, _CallIdentity] = None
    direction: Annotated[str | None, Constant()] = None
    caller: Annotated[str | None, Constant()] = None
    callee: Annotated[str | None, Constant()] = None
    status: Annotated[str | None, _CallOutcome] = None
    duration_seconds: Annotated[Decimal | None, _CallOutcome] = None
    end_reason: Annotated[str | None, _CallOutcome] = None
    recording_url: Annotated[str | None, Latest("recording")] = None
    summary: Annotated[str | None, _CallAnalysis] = None
    sentiment: Annotated[str | None, _CallAnalysis] = None
    started_at: Annotated[datetime | None, Min()] = None
    answered_at: Annotated[datetime | None, Min()] = None
    ended_at: Annotated[datetime | None, Min()] = None


MESSAGES: Final = Table("messages", Message)
SUBSCRIPTIONS: Final = Table("subscriptions", Subscription)
INVOICES: Final = Table("invoices", Invoice)
PAYMENTS: Final = Table("payments", Payment)
REFUNDS: Final = Table("refunds", Refund)
DISPUTES: Final = Table("disputes", Dispute)
CREDIT_ENTRIES: Final = Table("credit_entries", CreditEntry)
ACCOUNT_CORRECTIONS: Final = Table("account_corrections", AccountCorrection)
SUBSCRIPTION_CORRECTIONS: Final = Table("subscription_corrections", SubscriptionCorrection)
CALLS: Final = Table("calls", Call)
CRM_OBJECTS: Final = Table("crm_objects", CrmObject)
CRM_PROPERTIES: Final = Table("crm_properties", CrmProperty)
CONTACT_PREFERENCES: Final = Table("contact_preferences", ContactPreference)

TABLES: Final[list[Table[Any]]] = [
    MESSAGES,
    SUBSCRIPTIONS,
    INVOICES,
    PAYMENTS,
    REFUNDS,
    DISPUTES,
    CREDIT_ENTRIES,
    ACCOUNT_CORRECTIONS,
    SUBSCRIPTION_CORRECTIONS,
    CALLS,
    CRM_OBJECTS,
    CRM_PROPERTIES,
    CONTACT_PREFERENCES,
]
"""Every fact table, in the one order in which writers touch them."""

TABLE_OF: Final[dict[type[Fact], Table[Any]]] = {table.fact: table for table in TABLES}

PLUGGED_IN: Final[list[Table[Any]]] = []
"""The tables of plug-ins: no view of `views.sql` reads them, so each has a plain one."""

VIEWS_OVER_SEVERAL: Final[dict[str, tuple[str, ...]]] = {
    "conversations": ("source", "channel", "our_number", "peer_number"),
    "unassigned_purchases": ("source", "payment_intent_id"),
    "conflicting_usages": ("source", "entry_id"),
    "credits": ("source", "customer_id"),
    "accounts": ("source", "customer_id"),
    "webhook_events": ("source", "event_id"),
}
"""Views of ours that no table of their name is behind, with their keys."""

_TABLE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_COLUMN_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
"""Postgres writes others another way: then what is there never looks like what is declared."""

_RANK: Final = re.compile(r"[^'\\\0]+\Z")
"""It is written into a statement."""


def register(table: Table[Any]) -> None:
    """Add a plug-in's table behind those that are there; the same one again changes nothing. Raises `Misconfigured`."""
    if table in TABLES:
        return
    if not _TABLE_NAME.match(table.name):
        raise Misconfigured(f"{table.name!r} can't name a table: ^[a-z][a-z0-9_]{{0,39}}$")
    if table.name in VIEWS_OVER_SEVERAL or any(table.name == one.name for one in TABLES):
        raise Misconfigured(f"a table or view called {table.name!r} exists already")
    if not table.keys:
        raise Misconfigured(f"table {table.name!r} has no column with the policy Key")
    if table.fact in TABLE_OF:
        raise Misconfigured(f"{table.fact.__name__} is already the fact of table {TABLE_OF[table.fact].name!r}")
    if not issubclass(table.fact, Fact):
        raise Misconfigured(f"{table.fact.__name__} is not a subclass of schemas.lattice.Fact")
    _require_columns(table)
    TABLES.append(table)
    TABLE_OF[table.fact] = table
    PLUGGED_IN.append(table)


def _require_columns(table: Table[Any]) -> None:
    """Columns must be what Postgres takes as they are written, and merges. Raises `Misconfigured`."""
    names = [column.name for column in table.columns]
    for column in table.columns:
        where = f"column {column.name!r} of table {table.name!r}"
        if not _COLUMN_NAME.match(column.name):
            raise Misconfigured(f"{where}: a name, and that of a group, must match ^[a-z_][a-z0-9_]{{0,62}}$")
        if names.count(column.name) > 1:
            raise Misconfigured(f"{where} is there twice")
        if not isinstance(column.policy, Policy):
            raise Misconfigured(f"{where} has no merge policy")
        ranks = getattr(column.policy, "values", getattr(column.policy, "ranks", None))
        if ranks is not None and not (column.type is str and _are_ranks(ranks)):
            raise Misconfigured(f"{where}: ranks are for text: a tuple of different texts without quotes")
    if table.keys != tuple(names[: len(table.keys)]):
        raise Misconfigured(f"table {table.name!r}: the columns with the policy Key must come first")


def _are_ranks(values: Any) -> bool:
    is_text = isinstance(values, tuple | list) and all(isinstance(one, str) and _RANK.match(one) for one in values)
    return is_text and 0 < len(values) == len(set(values))
