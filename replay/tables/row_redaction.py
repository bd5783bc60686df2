"""Rows of read models as an operator sees them who has not asked for more. Must not know where they come from.

Numbers, times and flags are shown, and texts that name a state or an id, masked; of another text only its length.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from schemas.masking import mask_text

_SHOWN: Final = re.compile(r"(.*_)?(status|id|reason|currency|channel|kind|direction|tier)\Z")
_TIME: Final = re.compile(r"\d{4,6}-\d\d-\d\dT[\d:.]+\+00:00\Z", re.ASCII)


def shown_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """Whole, but for what is personal in it: without its key a row can't be looked up."""
    return {name: mask_text(value) if isinstance(value, str) else value for name, value in key.items()}


def shown_row(row: Mapping[str, Any] | None, hidden: Collection[str]) -> dict[str, Any] | None:
    """Without the columns that are `hidden`."""
    return None if row is None else {name: _shown(name, value) for name, value in row.items() if name not in hidden}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if _TIME.match(value):
            return value
        return mask_text(value) if _SHOWN.match(name) else f"<text {len(value)}>"
    if isinstance(value, dict | list):
        return f"<{len(value)} values>"
    return value
