"""An endless story, told while it is sent: every delivery some time, some of them twice, and the tables that must result.

Must not ask the product what to expect: `tests.support.story` says it.
"""

import random
from collections.abc import Iterator

from tests.support.story import STORIES, Author, Webhook, World

BUFFER = 4000
"""So many deliveries are out of order with one another."""

COPIES = 0.1


class Tale:
    """`world` grows with the telling."""

    def __init__(self, seed: int, start: int) -> None:
        self.world = World()
        self._random = random.Random(seed)
        self._start = start

    def deliveries(self, count: int) -> Iterator[tuple[int, Webhook]]:
        """At least `count`, each with the number of its webhook: the stories that were begun are told to their end."""
        waiting: list[tuple[int, Webhook]] = []
        given, told = 0, len(self.world.webhooks)
        while given + len(waiting) < count or waiting:
            while given + len(waiting) < count and len(waiting) < BUFFER:
                for webhook in self._tell().webhooks:
                    waiting.append((told, webhook))
                    told += 1
            at = self._random.randrange(len(waiting))
            one = waiting[at]
            if self._random.random() >= COPIES:
                waiting[at] = waiting[-1]
                waiting.pop()
            given += 1
            yield one

    def _tell(self) -> World:
        """One story of a provider's; again, where it has met a customer of an earlier one."""
        tell = STORIES[self._random.choice(list(STORIES))]
        while True:
            author = Author(self._random.getrandbits(64), self._start)
            tell(author)
            world = author.world
            if not any(rows.keys() & self.world.tables.get(table, {}).keys() for table, rows in world.tables.items()):
                break
        self.world.webhooks += world.webhooks
        self.world.announced += world.announced
        for table, rows in world.tables.items():
            self.world.tables.setdefault(table, {}).update(rows)
        return world
