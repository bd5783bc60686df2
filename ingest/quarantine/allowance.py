"""The limits of one source in the quarantine. Pure: the caller brings the clock.

The deliveries let in within any seven days are at most the configured number, in whatever order they come. Nothing is
ever dropped for newer ones, so this is the only bound. Must not know where deliveries are kept.
"""

from typing import Final

from schemas.quarantine import RETENTION_SECONDS, SMALL_BYTES, QuarantineConfig
from schemas.token_bucket import TokenBucket

BURST_SECONDS: Final = 10.0
_PARTS: Final = 2
"""One part is for small deliveries alone, the other for all."""


def largest(config: QuarantineConfig, processes: int) -> int:
    """Bytes of the largest delivery that can come in at all: what a process holds for everybody at once."""
    return config.bytes // (2 * _PARTS * processes)


class Allowance:
    """The allowance of one source in one of a host's `processes`. Times are seconds of a clock that never goes back."""

    def __init__(self, config: QuarantineConfig, processes: int, now: float) -> None:
        part = 1 / (_PARTS * processes)
        self._small = _Share(config, part, now)
        self._common = _Share(config, part, now)

    def admit(self, size: int, now: float) -> bool:
        """True if a delivery of `size` bytes, headers included, may come in; it counts from then on.

        Large deliveries can't use the part of the small ones: genuine ones are small, and must outlive large forged
        ones.
        """
        return (size <= SMALL_BYTES and self._small.admit(size, now)) or self._common.admit(size, now)


class _Share:
    """A part of what is configured: of the records, the bytes and the rate."""

    def __init__(self, config: QuarantineConfig, part: float, now: float) -> None:
        rate = config.per_second * part
        self._records = _lasting(config.records * part, now)
        self._bytes = _lasting(config.bytes * part, now)
        self._rate = TokenBucket(max(rate * BURST_SECONDS, 1.0), rate, now)

    def admit(self, size: int, now: float) -> bool:
        wanted = ((self._records, 1), (self._bytes, size), (self._rate, 1))
        if not all([bucket.has(tokens, now) for bucket, tokens in wanted]):
            return False
        for bucket, tokens in wanted:
            bucket.take(tokens)
        return True


def _lasting(amount: float, now: float) -> TokenBucket:
    """Half of it at once, and the other half over the retention: never more than all of it within one retention."""
    return TokenBucket(amount / 2, amount / 2 / RETENTION_SECONDS, now)
