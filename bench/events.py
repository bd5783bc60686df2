"""Stripe-like events of about 1 KB, signed, as the ingress would have put them on the log. The same in every run."""

import hashlib
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any, Final, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from bench.stack import SOURCE, TOPIC
from bench.subject import SECRET
from schemas.envelope import Delivery, record_headers
from schemas.providers import PROVIDERS, identify, verify
from schemas.providers.base import Secrets
from schemas.topics import DEFAULT_PARTITIONS

BODY_BYTES: Final = 1024
STRIPE: Final = PROVIDERS[SOURCE]
RECORDS_PER_BATCH: Final = 100
"""About what the ingress puts into a batch under load."""


class Logged(NamedTuple):
    """A record, ready to be produced."""

    key: bytes | None
    body: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


def token(kind: str, number: int) -> str:
    """An id that looks random, so that an index takes it at any place, but is the same in every run."""
    return hashlib.blake2b(f"{kind}{number}".encode(), digest_size=12).hexdigest()


def event(kind: str, data: dict[str, Any], number: int, created: int) -> dict[str, Any]:
    return {
        "id": f"evt_{token('event', number)}",
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": created,
        "data": {"object": data},
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": f"req_{token('request', number)[:14]}", "idempotency_key": None},
        "type": kind,
    }


def padded(document: dict[str, Any]) -> bytes:
    """The body, filled up with a description to the usual size."""
    data = document["data"]["object"]
    data["description"] = ""
    data["description"] = "x" * max(BODY_BYTES - len(orjson.dumps(document)), 0)
    return orjson.dumps(document)


def story(customer: int, created: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What one customer does: subscribes, is billed, buys credits. Two events each, so that rows are merged."""
    owner, subscription = f"cus_{token('customer', customer)[:14]}", f"sub_{token('subscription', customer)}"
    items = {"data": [{"price": {"id": "price_pro_monthly"}, "current_period_end": created + 30 * 86_400}]}
    state = {
        "id": subscription,
        "object": "subscription",
        "customer": owner,
        "cancel_at_period_end": False,
        "items": items,
    }
    yield "customer.subscription.created", {**state, "status": "incomplete"}
    yield "customer.subscription.updated", {**state, "status": "active"}
    bill = {
        "id": f"in_{token('invoice', customer)}",
        "object": "invoice",
        "customer": owner,
        "amount_due": 4900,
        "currency": "eur",
        "created": created,
        "parent": {"subscription_details": {"subscription": subscription}},
    }
    yield "invoice.finalized", {**bill, "status": "open", "amount_paid": 0, "attempt_count": 0}
    paid = {"status": "paid", "amount_paid": 4900, "attempt_count": 1, "status_transitions": {"paid_at": created + 1}}
    yield "invoice.payment_succeeded", {**bill, **paid}
    intent = {
        "id": f"pi_{token('payment', customer)}",
        "object": "payment_intent",
        "amount": 2500,
        "currency": "eur",
        "customer": owner,
        "metadata": {"type": "credit_purchase", "credits": "500"},
    }
    yield "payment_intent.created", {**intent, "status": "requires_payment_method"}
    yield "payment_intent.succeeded", {**intent, "status": "succeeded"}


KEYS: Final = 4096
SMALL_PARTITIONS: Final = 4
STORY_EVENTS: Final = sum(1 for _ in story(0, 0))
STORY_ROWS: Final = {"subscriptions": 1, "invoices": 1, "payments": 1, "credit_entries": 1}
"""Rows that a whole story leaves in each fact table."""


def bodies(created: int) -> Iterator[bytes]:
    """Without end."""
    number = customer = 0
    while True:
        for kind, data in story(customer, created):
            yield padded(event(kind, data, number, created))
            number += 1
        customer += 1


def logged(body: bytes, now: int) -> Logged:
    """Through the product's own verification, which alone makes records."""
    headers = {name.lower(): value for name, value in STRIPE.sign(SECRET, "", body, "", now).items()}
    path = f"/webhooks/{SOURCE}"
    delivery = Delivery(SOURCE, "POST", path, path, "", headers, body, "127.0.0.1", now * 1000)
    verified = verify(STRIPE, delivery, Secrets((SECRET,)), now)
    identity = identify(STRIPE, verified)
    kafka_headers = record_headers(verified, identity, STRIPE.kept_headers)
    return Logged(identity.record_id.encode(), body, kafka_headers, now * 1000)


SMALL_TYPE: Final = "counter.set"


def small_key(number: int) -> int:
    """7919 is prime to `KEYS`, so any `KEYS` events in a row have a key each."""
    return number * 7919 % KEYS


def small_event(number: int) -> Logged:
    """A record with little in it and no headers: an id, one of `KEYS` keys, a value."""
    body = orjson.dumps({"id": f"evt_{number}", "key": small_key(number), "type": SMALL_TYPE, "value": number})
    return Logged(None, body, [], time.time_ns() // 1_000_000)


def keyed_rows(count: int) -> list[tuple[int, int, str]]:
    """What `count` small events come to, by key: each key's greatest value."""
    return sorted((small_key(number), number, SMALL_TYPE) for number in range(max(count - KEYS, 0), count))


def signed_events(now: int) -> Iterator[Logged]:
    """Without end."""
    return (logged(body, now) for body in bodies(now))


async def fill_topic(servers: str, count: int) -> None:
    """Append `count` events to the source's topic, batch after batch on the next partition, as the ingress does."""
    await append(servers, islice(signed_events(int(time.time())), count), DEFAULT_PARTITIONS)


async def fill_topic_with_small_events(servers: str, count: int) -> None:
    await append(servers, map(small_event, range(count)), SMALL_PARTITIONS)


async def append(servers: str, records: Iterator[Logged], partitions: int) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, max_batch_size=1024 * 1024
    )
    await producer.start()
    try:
        turns = cycle(range(partitions))
        sent = []
        while chunk := list(islice(records, RECORDS_PER_BATCH)):
            batch = producer.create_batch()
            for record in chunk:
                timestamp, headers = record.timestamp_ms, record.headers
                if batch.append(key=record.key, value=record.body, timestamp=timestamp, headers=headers) is None:
                    raise ValueError("a batch of events does not fit into a Kafka batch")
            sent.append(await producer.send_batch(batch, TOPIC, partition=next(turns)))
        for delivered in sent:
            await delivered
    finally:
        await producer.stop()
