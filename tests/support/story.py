"""A made-up world of customers, payments, messages and calls, the webhooks it causes, and the tables that must result.

The expectation is written down while the world is made, from what happened in it; not a line of the product is asked.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.support import signing

Row = dict[str, Any]


@dataclass(frozen=True)
class Webhook:
    """One event's request, to be signed at sending time."""

    path: str
    body: bytes
    sign: Callable[[str, bytes, int], dict[str, str]]


@dataclass
class World:
    """What was sent, and what the read models must say: table -> key -> columns."""

    webhooks: list[Webhook] = field(default_factory=list)
    tables: dict[str, dict[tuple[str, ...], Row]] = field(default_factory=dict)
    events: set[tuple[str, str]] = field(default_factory=set)

    def expect(self, table: str, key: tuple[str, ...], **columns: Any) -> None:
        self.tables.setdefault(table, {})[key] = columns


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Author:
    """Writes the world from one seed."""

    def __init__(self, seed: int, start: int) -> None:
        self.random = random.Random(seed)
        self.start = start
        self.world = World()
        self._numbers = 0

    def name(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers:06d}{self.random.getrandbits(40):010x}"

    def write(self, customers: int, chats: int, calls: int) -> World:
        for _ in range(customers):
            self.customer()
        for _ in range(chats):
            self.whatsapp_chat()
            self.sms_chat()
        for _ in range(calls):
            self.call()
        return self.world

    # Stripe

    def stripe(self, kind: str, created: int, data: Row) -> str:
        event_id = self.name("evt_")
        body = {
            "id": event_id,
            "object": "event",
            "created": created,
            "type": kind,
            "livemode": False,
            "pending_webhooks": 1,
            "data": {"object": data},
        }
        self.world.webhooks.append(
            Webhook("/webhooks/stripe", json.dumps(body, indent=2).encode(), lambda _, b, now: signing.stripe(b, now))
        )
        self.world.events.add(("stripe", event_id))
        return event_id

    def customer(self) -> None:
        customer, now = self.name("cus_"), self.start + self.random.randrange(100_000)
        balance, frozen = 0, None
        status = self.subscription(customer, now)
        has_failed_invoice = self.invoice(customer, now + 50)
        for _ in range(self.random.randrange(3)):
            balance += self.purchase(customer, now + 1000)
        for _ in range(self.random.randrange(4)):
            balance -= self.usage(customer, now + 2000)
        if has_failed_invoice:
            frozen = "invoice_payment_failed"
        elif status == "unpaid":
            frozen = "subscription_unpaid"
        elif status == "canceled":
            frozen = "subscription_canceled"
        self.world.expect(
            "accounts",
            ("stripe", customer),
            is_frozen=frozen is not None,
            frozen_reason=frozen,
            subscription_status=status,
            credit_balance=balance,
        )

    def subscription(self, customer: str, now: int) -> str:
        """Its life in order; several changes may share a second, and then the later one has the greater id."""
        subscription = self.name("sub_")
        life = ["incomplete", "active", *self.random.choice([[], ["past_due"], ["past_due", "unpaid"], ["active"]])]
        is_deleted = self.random.random() < 0.3
        if is_deleted:
            life.append("canceled")
        is_new_shape = self.random.random() < 0.5
        for step, status in enumerate(life):
            if self.random.random() < 0.6:
                now += self.random.randrange(1, 1000)
            kind = "created" if step == 0 else "deleted" if status == "canceled" else "updated"
            period_end = now + 2_592_000
            item: Row = {"price": {"id": "price_pro"}}
            state: Row = {
                "id": subscription,
                "object": "subscription",
                "customer": customer,
                "status": status,
                "cancel_at_period_end": is_deleted,
                "items": {"data": [item]},
            }
            (item if is_new_shape else state)["current_period_end"] = period_end
            event_id = self.stripe(f"customer.subscription.{kind}", now, state)
        self.world.expect(
            "subscriptions",
            ("stripe", subscription),
            customer_id=customer,
            status=life[-1],
            price_id="price_pro",
            current_period_end=at(period_end),
            cancel_at_period_end=is_deleted,
            event_created=at(now),
            event_id=event_id,
        )
        return life[-1]

    def invoice(self, customer: str, now: int) -> bool:
        """Returns whether it is left open with a failed payment."""
        invoice, due = self.name("in_"), self.random.randrange(100, 10_000)
        failures, is_paid = self.random.randrange(3), self.random.random() < 0.7
        bill: Row = {
            "id": invoice,
            "object": "invoice",
            "customer": customer,
            "amount_due": due,
            "amount_paid": 0,
            "currency": "eur",
            "attempt_count": 0,
            "created": now,
            "status": "draft",
            "status_transitions": {"paid_at": None},
        }
        self.stripe("invoice.created", now, bill)
        bill = {**bill, "status": "open"}
        self.stripe("invoice.finalized", now + 1, bill)
        failed_at = None
        for attempt in range(1, failures + 1):
            failed_at = now + 10 * attempt
            self.stripe("invoice.payment_failed", failed_at, {**bill, "attempt_count": attempt})
        paid_at = now + 1000 if is_paid else None
        if is_paid:
            paid = {
                **bill,
                "status": "paid",
                "amount_paid": due,
                "attempt_count": failures + 1,
                "status_transitions": {"paid_at": paid_at},
            }
            self.stripe("invoice.paid", now + 1001, paid)
            self.stripe("invoice.payment_succeeded", now + 1001, paid)
        self.world.expect(
            "invoices",
            ("stripe", invoice),
            customer_id=customer,
            status="paid" if is_paid else "open",
            amount_due=due,
            amount_paid=due if is_paid else 0,
            currency="eur",
            attempt_count=failures + 1 if is_paid else failures,
            created_at=at(now),
            last_failed_at=at(failed_at) if failed_at else None,
            paid_at=at(paid_at) if paid_at else None,
        )
        return failures > 0 and not is_paid

    def purchase(self, customer: str, now: int) -> int:
        """Credits that count: those bought, less the refunded share. Returns the net."""
        payment, amount, credits = self.name("pi_"), self.random.randrange(100, 9000), self.random.randrange(1, 900)
        reference = self.name("ten_")
        metadata = {"type": "credit_purchase", "credits": str(credits)}
        intent: Row = {
            "id": payment,
            "object": "payment_intent",
            "amount": amount,
            "currency": "eur",
            "customer": customer,
            "metadata": metadata,
            "last_payment_error": None,
        }
        self.stripe("payment_intent.created", now, {**intent, "status": "requires_payment_method"})
        is_paid = self.random.random() < 0.85
        status, failure = "succeeded", None
        if not is_paid:
            status, failure = "requires_payment_method", "card_declined"
        kind = "payment_intent.succeeded" if is_paid else "payment_intent.payment_failed"
        error = {"code": failure} if failure else None
        self.stripe(kind, now, {**intent, "status": status, "last_payment_error": error})
        refunded = None
        if is_paid:
            session = {
                "id": self.name("cs_"),
                "object": "checkout.session",
                "mode": "payment",
                "customer": customer,
                "client_reference_id": reference,
                "payment_intent": payment,
                "payment_status": "paid",
                "amount_total": amount,
                "currency": "eur",
                "metadata": metadata,
            }
            self.stripe("checkout.session.completed", now + 1, session)
            for part in sorted(self.random.sample(range(1, amount + 1), self.random.randrange(3))):
                refunded = part
                charge = {
                    "id": self.name("ch_"),
                    "object": "charge",
                    "customer": customer,
                    "payment_intent": payment,
                    "amount": amount,
                    "amount_refunded": part,
                    "currency": "eur",
                }
                self.stripe("charge.refunded", now + 100 + part, charge)
        self.world.expect(
            "payments",
            ("stripe", payment),
            customer_id=customer,
            client_reference_id=reference if is_paid else None,
            purpose="credit_purchase",
            status=status,
            amount=amount,
            amount_refunded=refunded,
            currency="eur",
            failure_code=failure,
            occurred_at=at(now),
        )
        if not is_paid:
            return 0
        returned = credits * (refunded or 0) // amount
        self.world.expect(
            "credit_entries",
            ("stripe", payment),
            kind="purchase",
            customer_id=customer,
            credits=credits,
            credits_refunded=returned,
            occurred_at=at(now),
        )
        return credits - returned

    def usage(self, customer: str, now: int) -> int:
        entry, used, message_id = self.name("use_"), self.random.randrange(1, 40), self.name("msg_")
        when = at(now).isoformat().replace("+00:00", "Z")
        data = {"id": entry, "customer": customer, "credits": used, "source": "stripe"}
        body = json.dumps({"type": "credits.used", "timestamp": when, "data": data}).encode()
        self.world.webhooks.append(
            Webhook("/webhooks/standardwebhooks", body, lambda _, b, t: signing.standard(message_id, b, t))
        )
        self.world.events.add(("standardwebhooks", message_id))
        self.world.expect(
            "credit_entries",
            ("stripe", entry),
            kind="usage",
            customer_id=customer,
            credits=-used,
            credits_refunded=0,
            occurred_at=at(now),
        )
        return used

    # WhatsApp

    def whatsapp(self, updates: list[tuple[str, Row]]) -> None:
        """One delivery with one or several updates."""
        value: Row = {"messaging_product": "whatsapp", "metadata": {"display_phone_number": "15550783881"}}
        for kind, update in updates:
            value.setdefault(kind, []).append(update)
            name = update["id"] if kind == "messages" else f"{update['id']}:{update['status']}"
            self.world.events.add(("whatsapp", name))
        body = {
            "object": "whatsapp_business_account",
            "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
        }
        self.world.webhooks.append(
            # Non-ASCII escaped, as Meta sends it.
            Webhook("/webhooks/whatsapp", json.dumps(body).encode(), lambda _, b, __: signing.whatsapp(b))
        )

    def whatsapp_chat(self) -> None:
        customer, now = f"336{self.random.randrange(10**8):08d}", self.start + self.random.randrange(100_000)
        pending: list[tuple[str, Row]] = []
        inbound = self.random.randrange(1, 4)
        for number in range(inbound):
            message, text = self.name("wamid."), self.random.choice(["Ça marche 🌊", "ok", "STOP", "demain ?"])
            pending.append(
                (
                    "messages",
                    {
                        "from": customer,
                        "id": message,
                        "timestamp": str(now + number),
                        "type": "text",
                        "text": {"body": text},
                    },
                )
            )
            self.world.expect(
                "messages",
                ("whatsapp", message),
                channel="whatsapp",
                direction="inbound",
                sender=f"+{customer}",
                recipient="+15550783881",
                kind="text",
                body=text,
                status="received",
                error_code=None,
                is_opt_out=text == "STOP",
                sent_at=None,
                occurred_at=at(now + number),
            )
        outbound = self.name("wamid.")
        life = self.random.choice([["sent"], ["sent", "delivered"], ["sent", "delivered", "read"], ["failed"]])
        for status in life:
            update: Row = {"id": outbound, "status": status, "timestamp": str(now + 60), "recipient_id": customer}
            if status == "failed":
                update["errors"] = [{"code": 131047, "title": "Re-engagement message"}]
            pending.append(("statuses", update))
        when = at(now + 60)
        self.world.expect(
            "messages",
            ("whatsapp", outbound),
            channel="whatsapp",
            direction="outbound",
            sender="+15550783881",
            recipient=f"+{customer}",
            status=life[-1],
            error_code="131047" if "failed" in life else None,
            sent_at=when if "sent" in life else None,
            delivered_at=when if "delivered" in life else None,
            read_at=when if "read" in life else None,
            failed_at=when if "failed" in life else None,
            occurred_at=when,
        )
        self.world.expect(
            "conversations",
            ("whatsapp", "whatsapp", "+15550783881", f"+{customer}"),
            inbound=inbound,
            outbound=1,
            last_inbound_at=at(now + inbound - 1),
            last_outbound_at=when,
        )
        self.random.shuffle(pending)
        while pending:
            count = self.random.randrange(1, len(pending) + 1)
            self.whatsapp(pending[:count])
            del pending[:count]

    # Twilio

    def twilio(self, path: str, event_id: str, **fields: str) -> None:
        pairs = list({"AccountSid": "AC1", "ApiVersion": "2010-04-01", "ToCity": "", **fields}.items())
        self.random.shuffle(pairs)
        self.world.webhooks.append(
            Webhook(f"/webhooks/twilio{path}", urlencode(pairs).encode(), lambda url, b, _: signing.twilio(url, b))
        )
        self.world.events.add(("twilio", event_id))

    def sms_chat(self) -> None:
        ours, customer = "+33644601234", f"+336{self.random.randrange(10**8):08d}"
        inbound, text = self.name("SM"), "Bonjour, c'est Zoé 👋 & co + 100%"
        self.twilio("/sms", inbound, MessageSid=inbound, SmsStatus="received", From=customer, To=ours, Body=text)
        self.world.expect(
            "messages",
            ("twilio", inbound),
            channel="sms",
            direction="inbound",
            sender=customer,
            recipient=ours,
            kind="text",
            body=text,
            status="received",
            error_code=None,
            sent_at=None,
            occurred_at=None,
        )
        outbound = self.name("SM")
        life = self.random.choice([["queued", "sent", "delivered"], ["sent", "undelivered"], ["failed"], ["sent"]])
        failure = {"undelivered": "30007", "failed": "21614"}.get(life[-1])
        for status in life:
            extra = {"ErrorCode": failure} if failure and status == life[-1] else {}
            self.twilio(
                "/sms",
                f"{outbound}:{status}",
                MessageSid=outbound,
                MessageStatus=status,
                SmsStatus=status,
                From=ours,
                To=customer,
                **extra,
            )
        self.world.expect(
            "messages",
            ("twilio", outbound),
            channel="sms",
            direction="outbound",
            sender=ours,
            recipient=customer,
            body=None,
            status=life[-1],
            error_code=failure,
            delivered_at=None,
        )
        self.world.expect(
            "conversations",
            ("twilio", "sms", ours, customer),
            inbound=1,
            outbound=1,
            last_inbound_at=None,
        )

    def call(self) -> None:
        call, now = self.name("CA"), self.start + self.random.randrange(100_000)
        ending = self.random.choice(["completed", "busy", "no-answer", None])
        seconds = self.random.randrange(1, 600)
        steps = [("initiated", 0), ("ringing", 1)]
        if ending == "completed":
            steps.append(("in-progress", 9))
        end = 9 + seconds
        if ending:
            steps.append((ending, end))
        for status, offset in steps:
            extra = {"CallDuration": str(seconds if ending == "completed" else 0)} if status == ending else {}
            when = at(now + offset).strftime("%a, %d %b %Y %H:%M:%S +0000")
            self.twilio(
                "/voice",
                f"{call}:{status}",
                CallSid=call,
                CallStatus=status,
                Direction="outbound-api",
                From="+33644601234",
                To="+33612345678",
                Timestamp=when,
                **extra,
            )
        self.world.expect(
            "calls",
            ("twilio", call),
            direction="outbound",
            caller="+33644601234",
            callee="+33612345678",
            status=ending or "ringing",
            started_at=at(now),
            answered_at=at(now + 9) if ending == "completed" else None,
            ended_at=at(now + end) if ending else None,
            duration_seconds=None if ending is None else seconds if ending == "completed" else 0,
            talk_seconds=seconds if ending == "completed" else None,
        )
