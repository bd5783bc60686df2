"""What every story is written with."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Webhook:
    """One event's request, to be signed at sending time."""

    path: str
    body: bytes
    sign: Callable[[str, bytes, int], dict[str, str]]


@dataclass
class World:
    """What was sent, the events that each webhook announces, and what the read models must say: table -> key -> columns."""

    webhooks: list[Webhook] = field(default_factory=list)
    announced: list[set[tuple[str, str]]] = field(default_factory=list)
    tables: dict[str, dict[tuple[str, ...], Row]] = field(default_factory=dict)

    @property
    def events(self) -> set[tuple[str, str]]:
        """(source, event id) of every event."""
        return set().union(*self.announced)

    def expect(self, table: str, key: tuple[str, ...], **columns: Any) -> None:
        self.tables.setdefault(table, {})[key] = columns


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Author:
    """Writes the world from one seed. `stripe`: the source whose customers' credits other deliveries speak of."""

    def __init__(self, seed: int, start: int, stripe: str = "stripe") -> None:
        self.random = random.Random(seed)
        self.start = start
        self.stripe = stripe
        self.world = World()
        self._numbers = 0

    def name(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers:06d}{self.random.getrandbits(40):010x}"

    def moment(self) -> int:
        """Some second of the story's time."""
        return self.start + self.random.randrange(100_000)

    def tells(self, webhook: Webhook, source: str, *event_ids: str) -> None:
        """A request, and the events that it announces."""
        self.world.webhooks.append(webhook)
        self.world.announced.append({(source, event_id) for event_id in event_ids})
