"""Samples of WhatsApp."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample, token


def samples(_: str) -> Iterator[Sample]:
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
    inbound = {"from": customer, "id": f"wamid.{token(32)}", "timestamp": str(now), "type": "text", "text": text}
    yield batch(messages=[inbound])
    outbound = f"wamid.{token(32)}"
    for seconds, status in enumerate(("sent", "delivered", "read")):
        yield batch(
            statuses=[{"id": outbound, "status": status, "timestamp": str(now + seconds), "recipient_id": customer}]
        )
