"""A rate limit that lets a burst pass. Pure: the caller brings the clock."""


class TokenBucket:
    """`capacity` tokens that fill up again at `per_second`. Times are seconds of any one clock."""

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self._capacity = self._tokens = capacity
        self._per_second = per_second
        self._filled_at = now

    def has(self, tokens: float, now: float) -> bool:
        self._tokens = min(self._capacity, self._tokens + max(now - self._filled_at, 0.0) * self._per_second)
        self._filled_at = now
        return self._tokens >= tokens

    def take(self, tokens: float) -> None:
        self._tokens -= tokens
