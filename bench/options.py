"""How much to measure."""

import shlex
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` is one load run of the ingress; `events` is the log that processors and replays read."""

    rounds: int
    seconds: int
    connections: tuple[int, ...]
    events: int
    stock_events: int
    seed: int

    def command(self, suite: str) -> str:
        """What has to be typed to measure the same again."""
        words = ["python", "-m", "bench", suite]
        for field in fields(self):
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{field.name.replace('_', '-')}", str(one)]
        return shlex.join(words)
