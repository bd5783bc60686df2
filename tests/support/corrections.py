"""Corrections as records of the log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from schemas.corrections import Correction
from schemas.topics import OPERATOR
from tests.support.records import FakeRecord

NOW = 1_760_000_000
CUSTOMER = "cus_1"


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)


def correction(name: str, change: dict[str, Any], at: float = 0, source: str = "stripe") -> Correction:
    """`at` is in seconds after NOW."""
    document = {
        "id": name,
        "at": moment(at).isoformat(),
        "source": source,
        "operator": "ada",
        "reason": "because",
        "change": change,
    }
    return Correction.model_validate_json(orjson.dumps(document))


def correction_record(said: Correction, offset: int = 0) -> FakeRecord:
    return FakeRecord(OPERATOR, 0, offset, said.timestamp_ms, said.event_id.encode(), said.body(), said.headers())


def credits(amount: int, customer: str = CUSTOMER) -> dict[str, Any]:
    return {"type": "credits.adjusted", "customer": customer, "credits": amount}


def account(is_frozen: bool, customer: str = CUSTOMER) -> dict[str, Any]:
    return {"type": "account.frozen" if is_frozen else "account.unfrozen", "customer": customer}


def subscription(status: str, name: str = "sub_1", **more: Any) -> dict[str, Any]:
    return {"type": "subscription.corrected", "subscription": name, "status": status, **more}
