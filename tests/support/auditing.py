"""What operators did, as the audit tells it."""

import json
from typing import Any

NO_TEXTS = ("a\0b", "\udcff", "x" * 1001)
"""What can't be on record."""


async def audited(connection: Any) -> list[tuple[str, str | None, dict[str, Any]]]:
    rows = await connection.fetch("SELECT action, reason, details FROM redrive.audit ORDER BY id")
    return [(row["action"], row["reason"], json.loads(row["details"])) for row in rows]
