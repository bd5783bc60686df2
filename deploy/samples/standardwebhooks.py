"""Samples of Standard Webhooks."""

import time
from collections.abc import Iterator

import orjson

from deploy.samples.base import JSON, Sample, token


def samples(customer: str) -> Iterator[Sample]:
    """The customer of the source `stripe` uses credits; and a type that nobody reads."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    usage = {"id": f"use_{token()}", "customer": customer, "credits": 3, "source": "stripe"}
    yield Sample(orjson.dumps({"type": "credits.used", "timestamp": when, "data": usage}), JSON)
    yield Sample(orjson.dumps({"type": "contact.created", "timestamp": when, "data": {"id": token(32)}}), JSON)
