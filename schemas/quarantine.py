"""How much is quarantined, and the note of what was not. The records themselves are in `schemas.envelope`."""

from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import LAST_MS

DROPPED_TYPE: Final = "redrive.quarantine.dropped"


class QuarantineConfig(BaseModel):
    """`[quarantine]` of redrive.toml: limits of each source, so that forgeries can fill neither disk nor log.

    Held are at most `records` and `bytes`, which free themselves over the topic's retention; `per_second` limits how
    fast a flood may use them up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    records: int = Field(100_000, ge=0)
    bytes: int = Field(256 * 1024 * 1024, ge=0)
    per_second: float = Field(200.0, gt=0)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Deliveries of one source and one minute (milliseconds since the epoch) that the limits kept out."""

    source: str
    minute_ms: int
    deliveries: int

    def encode(self) -> bytes:
        return orjson.dumps({"source": self.source, "minute_ms": self.minute_ms, "deliveries": self.deliveries})

    @classmethod
    def decode(cls, value: bytes | None) -> "Dropped":
        """Raises ValueError, KeyError or TypeError."""
        said = orjson.loads(value or b"")
        minute_ms, deliveries = int(said["minute_ms"]), int(said["deliveries"])
        if not (0 <= minute_ms <= LAST_MS and 0 <= deliveries < 2**53):
            raise ValueError("no minute of the calendar, or no number of deliveries")
        return cls(str(said["source"]), minute_ms, deliveries)
