"""The operators' settings of a source, as records of `webhooks.control`: compacted, so that the last one holds."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import orjson

from schemas.topics import is_source_name

SourceStateName = Literal["active", "paused", "disabled"]
STATES: Final[tuple[SourceStateName, ...]] = get_args(SourceStateName)


@dataclass(frozen=True, slots=True)
class SourceState:
    """The state of a source, and who said so, when (RFC 3339) and why.

    `active`: stored and folded. `paused`: stored, folded later. `disabled`: answered 410, nothing is stored.
    """

    source: str
    state: SourceStateName
    operator: str
    reason: str
    at: str

    def encode(self) -> tuple[bytes, bytes]:
        """(key, value) of the record."""
        value = {"state": self.state, "operator": self.operator, "reason": self.reason, "at": self.at}
        return self.source.encode(), orjson.dumps(value)

    @classmethod
    def decode(cls, key: bytes | None, value: bytes | None) -> "SourceState | None":
        """None for a record that is not about a source: an unreadable record must not stop anything."""
        try:
            said = orjson.loads(value or b"")
            source = (key or b"").decode()
            if not is_source_name(source) or said["state"] not in STATES:
                return None
            return cls(source, said["state"], str(said["operator"]), str(said["reason"]), str(said["at"]))
        except (ValueError, KeyError, TypeError):
            return None
