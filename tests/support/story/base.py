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
    """What was sent, and what the read models must say: table -> key -> columns."""

    webhooks: list[Webhook] = field(default_factory=list)
    tables: dict[str, dict[tuple[str, ...], Row]] = field(default_factory=dict)
    events: set[tuple[str, str]] = field(default_factory=set)

    def expect(self, table: str, key: tuple[str, ...], **columns: Any) -> None:
        self.tables.setdefault(table, {})[key] = columns


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Author:
    """Writes the world from one seed."""

    def __init__(self, seed: int, start: int) -> None:
        self.random = random.Random(seed)
        self.start = start
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
        self.world.events.update((source, event_id) for event_id in event_ids)
