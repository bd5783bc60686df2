"""How much is quarantined, and the note of what was not. The records themselves are in `schemas.envelope`."""

from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import LAST_MS
from schemas.topics import QUARANTINE, SIDE_CONFIG

DROPPED_TYPE: Final = "redrive.quarantine.dropped"
RETENTION_SECONDS: Final = int(SIDE_CONFIG[QUARANTINE]["retention.ms"]) / 1000
SMALL_BYTES: Final = 64 * 1024
"""Up to here, headers included, a delivery is small: hardly any provider sends larger ones as a rule."""


class QuarantineConfig(BaseModel):
    """`[quarantine]` of redrive.toml: limits of a source on a host, so that forgeries can fill neither disk nor log.

    `records` and `bytes` are what is let in within any seven days: half of it at once, the other half over those days.
    `per_second` limits how fast a flood may use them up. Half of each is for small deliveries alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    records: int = Field(100_000, ge=0)
    bytes: int = Field(128 * 1024 * 1024, ge=0)
    per_second: float = Field(200.0, gt=0)

    def bytes_at_most(self, sources: int) -> int:
        """The most that so many sources can add within any seven days on one host."""
        return self.bytes * sources


@dataclass(frozen=True, slots=True)
class DroppedDeliveries:
    """Deliveries of one source and one minute (milliseconds since the epoch) that the limits kept out."""

    source: str
    minute_ms: int
    deliveries: int

    def encode(self) -> bytes:
        return orjson.dumps({"source": self.source, "minute_ms": self.minute_ms, "deliveries": self.deliveries})

    @classmethod
    def decode(cls, value: bytes | None) -> "DroppedDeliveries":
        """Raises ValueError, KeyError or TypeError."""
        said = orjson.loads(value or b"")
        minute_ms, deliveries = int(said["minute_ms"]), int(said["deliveries"])
        if not (0 <= minute_ms <= LAST_MS and 0 <= deliveries < 2**53):
            raise ValueError("no minute of the calendar, or no number of deliveries")
        return cls(str(said["source"]), minute_ms, deliveries)
