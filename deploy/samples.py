"""Signed sample deliveries, for `redrive send` and the first traffic of `redrive up`. Every sample has new ids."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from schemas.settings import Source

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Sample:
    """A body to sign and post to `/webhooks/{source}{path}`."""

    body: bytes
    content_type: str
    path: str = ""


def _token(length: int = 14) -> str:
    return secrets.token_hex(length)[:length]


def _stripe(kind: str, data: dict[str, Any], created: int) -> Sample:
    event = {
        "id": f"evt_{_token(24)}",
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": created,
        "data": {"object": data},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    return Sample(orjson.dumps(event, option=orjson.OPT_INDENT_2), JSON)


def new_customer() -> str:
    return f"cus_{_token()}"


def stripe_samples(customer: str) -> Iterator[Sample]:
    """One customer: subscribes, pays, buys credits, gets a part of them back."""
    now = int(time.time())
    subscription, invoice, payment = f"sub_{_token()}", f"in_{_token()}", f"pi_{_token()}"
    state = {
        "id": subscription,
        "object": "subscription",
        "customer": customer,
        "status": "active",
        "cancel_at_period_end": False,
        "items": {"data": [{"price": {"id": "price_pro_monthly"}, "current_period_end": now + 30 * 86_400}]},
    }
    yield _stripe("customer.subscription.created", {**state, "status": "incomplete"}, now)
    yield _stripe("customer.subscription.updated", state, now)
    bill = {
        "id": invoice,
        "object": "invoice",
        "customer": customer,
        "amount_due": 4900,
        "amount_paid": 4900,
        "currency": "eur",
        "status": "paid",
        "attempt_count": 1,
        "created": now,
        "parent": {"subscription_details": {"subscription": subscription}},
        "status_transitions": {"paid_at": now + 1},
    }
    yield _stripe("invoice.payment_succeeded", bill, now + 1)
    purchase = {"type": "credit_purchase", "credits": "500"}
    intent = {
        "id": payment,
        "object": "payment_intent",
        "amount": 2500,
        "currency": "eur",
        "customer": customer,
        "status": "succeeded",
        "metadata": purchase,
    }
    yield _stripe("payment_intent.succeeded", intent, now + 2)
    charge = {
        "id": f"ch_{_token()}",
        "object": "charge",
        "customer": customer,
        "payment_intent": payment,
        "amount": 2500,
        "amount_refunded": 500,
        "currency": "eur",
    }
    yield _stripe("charge.refunded", charge, now + 3)


def whatsapp_samples(_: str) -> Iterator[Sample]:
    """A customer writes; our answer is sent, delivered, read."""
    now = int(time.time())
    metadata = {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"}
    customer = f"3361234{secrets.randbelow(10_000):04d}"

    def batch(**value: Any) -> Sample:
        change = {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
        entry = {"id": "102290129340398", "changes": [change]}
        # Meta escapes non-ASCII text; orjson would not.
        return Sample(orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]}), JSON)

    text = {"body": "Bonjour, est-ce que vous livrez le samedi ?"}
    inbound = {"from": customer, "id": f"wamid.{_token(32)}", "timestamp": str(now), "type": "text", "text": text}
    yield batch(messages=[inbound])
    outbound = f"wamid.{_token(32)}"
    for seconds, status in enumerate(("sent", "delivered", "read")):
        yield batch(
            statuses=[{"id": outbound, "status": status, "timestamp": str(now + seconds), "recipient_id": customer}]
        )


def twilio_samples(_: str) -> Iterator[Sample]:
    """An SMS comes in, one goes out and arrives, and a call is made."""
    account, ours = f"AC{_token(32)}", "+33644601234"
    customer = f"+3361234{secrets.randbelow(10_000):04d}"
    sms = {"AccountSid": account, "ApiVersion": "2010-04-01"}
    sid = f"SM{_token(32)}"
    yield _form("/sms", MessageSid=sid, SmsStatus="received", From=customer, To=ours, Body="OK merci", **sms)
    sid = f"SM{_token(32)}"
    for status in ("sent", "delivered"):
        yield _form("/sms", MessageSid=sid, MessageStatus=status, SmsStatus=status, From=ours, To=customer, **sms)
    sid = f"CA{_token(32)}"
    now = time.time()
    for seconds, status in ((0, "initiated"), (2, "ringing"), (9, "in-progress"), (138, "completed")):
        fields = {
            "CallSid": sid,
            "CallStatus": status,
            "Direction": "outbound-api",
            "From": ours,
            "To": customer,
            "Timestamp": time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(now + seconds)),
        }
        if status == "completed":
            fields["CallDuration"] = "129"
        yield _form("/voice", **fields, **sms)


def _form(path: str, **fields: str) -> Sample:
    return Sample(urlencode(fields).encode(), FORM, path)


def standardwebhooks_samples(customer: str) -> Iterator[Sample]:
    """The customer of the source `stripe` uses credits; and a type that nobody reads."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    usage = {"id": f"use_{_token()}", "customer": customer, "credits": 3, "source": "stripe"}
    yield Sample(orjson.dumps({"type": "credits.used", "timestamp": when, "data": usage}), JSON)
    yield Sample(orjson.dumps({"type": "contact.created", "timestamp": when, "data": {"id": _token(32)}}), JSON)


SAMPLES: Final[dict[str, Callable[[str], Iterator[Sample]]]] = {
    "stripe": stripe_samples,
    "whatsapp": whatsapp_samples,
    "twilio": twilio_samples,
    "standardwebhooks": standardwebhooks_samples,
}


def samples(source: Source, count: int) -> Iterator[Sample]:
    """`count` samples of the source's provider, story after story, each of a new customer."""
    made = 0
    while made < count:
        for sample in story(source, new_customer()):
            if made == count:
                return
            made += 1
            yield sample


def story(source: Source, customer: str) -> Iterator[Sample]:
    """One whole story of one customer."""
    return SAMPLES[source.provider.name](customer)


def story_length(source: Source) -> int:
    return sum(1 for _ in story(source, new_customer()))
