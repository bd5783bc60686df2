"""Records for the log, as the ingress would have written them."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.envelope import Delivery, KafkaHeaders, VerifiedDelivery, record_headers
from schemas.providers import PROVIDERS, conceal, identify, verify
from schemas.providers.base import Secrets
from schemas.topics import source_of
from tests.support import signing
from tests.support.story import Webhook

PUBLIC_URL = "https://hooks.example.com"
PARTITIONS = 3
"""Of a topic of a test's own."""


@dataclass
class FakeRecord:
    """What a Kafka client returns, for tests that need no Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders = field(default_factory=list)


def verified(
    source: str,
    provider: str,
    body: bytes,
    content_type: str = "application/json",
    path: str = "",
    signed_id: str | None = None,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> VerifiedDelivery:
    delivery = Delivery(
        source,
        method,
        f"http://x/webhooks/{source}{path}",
        f"/webhooks/{source}{path}",
        "",
        headers or {"content-type": content_type},
        body,
        "127.0.0.1",
        time.time_ns() // 1_000_000,
    )
    masked = conceal(PROVIDERS[provider], delivery, Secrets(digest_key=b"key"))
    return VerifiedDelivery(masked, "signed", 0, signed_id)


def record(topic: str, provider: str, body: bytes, offset: int = 0, partition: int = 0, **parts: Any) -> FakeRecord:
    delivery = verified(topic.removeprefix("webhooks."), provider, body, **parts)
    return _logged(topic, provider, delivery, offset, partition)


def on_topic(record: FakeRecord, topic: str, partition: int) -> FakeRecord:
    """The same delivery to the source of another topic."""
    headers = [
        (name, f"/webhooks/{source_of(topic)}".encode() if name == "ce_source" else value)
        for name, value in record.headers
    ]
    return replace(record, topic=topic, partition=partition, headers=headers)


def story_record(webhook: Webhook, now: int) -> FakeRecord:
    """A webhook of a story, posted to the source of its provider's name: signed, and verified as the ingress does."""
    path, _, query = webhook.path.partition("?")
    name, url = path.split("/")[2], PUBLIC_URL + webhook.path
    headers = {header.lower(): value for header, value in webhook.sign(url, webhook.body, now).items()}
    delivery = Delivery(name, "POST", url, path, query, headers, webhook.body, "127.0.0.1", now * 1000)
    secrets = Secrets((signing.SECRETS[PROVIDERS[name].secret_variable],), digest_key=b"key")
    return _logged(f"webhooks.{name}", name, verify(PROVIDERS[name], delivery, secrets, now))


def _logged(topic: str, provider: str, delivery: VerifiedDelivery, offset: int = 0, partition: int = 0) -> FakeRecord:
    identity = identify(PROVIDERS[provider], delivery)
    headers = record_headers(delivery, identity, PROVIDERS[provider].kept_headers)
    return FakeRecord(
        topic,
        partition,
        offset,
        delivery.delivery.arrived_ms,
        identity.record_id.encode(),
        delivery.delivery.body,
        headers,
    )


def stripe_event(event_id: str, kind: str, data: dict[str, Any], created: int = 1_760_000_000) -> bytes:
    return json.dumps(
        {"id": event_id, "object": "event", "created": created, "type": kind, "data": {"object": data}}
    ).encode()


def payment(number: int | str, amount: int = 100, customer: str = "cus_1", created: int = 1_760_000_000) -> bytes:
    data = {
        "id": f"pi_{number}",
        "object": "payment_intent",
        "amount": amount,
        "currency": "eur",
        "customer": customer,
        "status": "succeeded",
        "metadata": {},
    }
    return stripe_event(f"evt_{number}", "payment_intent.succeeded", data, created)


def refused(number: int) -> bytes:
    """A payment that Postgres refuses: its key is too long for an index."""
    key = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(150))
    data = {"id": f"pi_{key}", "object": "payment_intent", "amount": 100, "currency": "eur", "status": "succeeded"}
    return stripe_event(f"evt_{number}", "payment_intent.succeeded", data)


def batch(topic: str, numbers: range) -> list[FakeRecord]:
    return [record(topic, "stripe", payment(n), partition=n % PARTITIONS) for n in numbers]


async def produce(servers: str, records: Iterable[FakeRecord]) -> None:
    """Append to the partitions that the records name."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=6 * 2**20)
    await producer.start()
    try:
        sent = [
            await producer.send(
                one.topic,
                one.value,
                key=one.key,
                partition=one.partition,
                timestamp_ms=one.timestamp,
                headers=list(one.headers),
            )
            for one in records
        ]
        for future in sent:
            await future
    finally:
        await producer.stop()
