"""Samples of HubSpot."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson

from deploy.samples.base import JSON, Sample


def samples(customer: str) -> Iterator[Sample]:
    """The customer becomes a contact, wins a deal in one batch, and a double of them is merged away."""
    now_ms = time.time_ns() // 1_000_000
    contact, double, deal = (_number() for _ in range(3))

    def event(kind: str, object_id: int, after_ms: int, **fields: Any) -> dict[str, Any]:
        return {
            "eventId": _number(),
            "subscriptionId": 12345,
            "portalId": 62515,
            "appId": 54321,
            "occurredAt": now_ms + after_ms,
            "subscriptionType": kind,
            "attemptNumber": 0,
            "objectId": object_id,
            "changeSource": "CRM_UI",
            **fields,
        }

    def change(kind: str, object_id: int, after_ms: int, name: str, value: str) -> dict[str, Any]:
        return event(f"{kind}.propertyChange", object_id, after_ms, propertyName=name, propertyValue=value)

    yield _batch(
        event("contact.creation", contact, 0, changeFlag="NEW"),
        change("contact", contact, 40, "firstname", "Zoé"),
        change("contact", contact, 40, "customer_id", customer),
    )
    yield _batch(
        event("deal.creation", deal, 900, changeFlag="CREATED"),
        change("deal", deal, 950, "dealstage", "closedwon"),
        change("contact", contact, 990, "lifecyclestage", "customer"),
    )
    yield _batch(event("contact.creation", double, 1200, changeFlag="NEW"))
    merged = {"primaryObjectId": contact, "mergedObjectIds": [double], "numberOfPropertiesMoved": 0}
    yield _batch(event("contact.merge", contact, 2000, **merged))


def _number() -> int:
    return 1_000_000_000 + secrets.randbelow(9_000_000_000)


def _batch(*events: dict[str, Any]) -> Sample:
    return Sample(orjson.dumps(events), JSON)
