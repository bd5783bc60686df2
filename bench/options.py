"""How much to measure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` is one load run of the ingress; `events` is the log that processors and replays read."""

    rounds: int
    seconds: int
    connections: tuple[int, ...]
    events: int
    stock_events: int
