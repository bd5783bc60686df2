"""Updates of WhatsApp, one delivery at a time, and what they become."""

import json
from typing import Any

from processors.fold import fold_record
from processors.outcome import Folded
from tests.support.records import record
from tests.support.rows import rows_of

NOW = 1_795_950_000
OURS, THEIRS = "15550100100", "34600111222"
Row = dict[str, Any]


def delivery(field: str, **value: Any) -> bytes:
    value = {"metadata": {"display_phone_number": OURS}, **value}
    return json.dumps({"entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]}).encode()


def message(kind: str, content: Any = None, **fields: Any) -> Row:
    said = {"from": THEIRS, "id": "wamid.1", "timestamp": str(NOW), "type": kind, **fields}
    return said if content is None else {**said, kind: content}


def status(said: str, **fields: Any) -> Row:
    return {"id": "wamid.1", "status": said, "timestamp": str(NOW), "recipient_id": THEIRS, **fields}


def folded(body: bytes) -> Folded:
    return fold_record(record("webhooks.whatsapp", "whatsapp", body))


def rows(body: bytes) -> list[tuple[str, Row]]:
    return rows_of(record("webhooks.whatsapp", "whatsapp", body))


def row(body: bytes) -> Row:
    ((_, found),) = rows(body)
    return found
