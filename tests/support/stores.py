"""A batch of records as a test commits it, and dead letters in memory."""

from collections.abc import Sequence
from typing import Any

from processors.fold import fold_record
from processors.outcome import Dead, Folded
from processors.store import Span, Store
from tests.support.records import FakeRecord

TOPIC = "webhooks.stripe"


class Letters:
    """Dead letters in memory: what is tested here is when they are written, and which."""

    def __init__(self) -> None:
        self.written: list[Dead] = []

    async def put(self, letters: Sequence[Dead]) -> None:
        self.written += letters


def fold(records: Sequence[FakeRecord]) -> list[Folded]:
    return [fold_record(one) for one in records]


async def commit(connection: Any, store: Store, records: Sequence[FakeRecord], start: int, end: int) -> list[Dead]:
    return await store.commit_batch(connection, Span(TOPIC, 0, start, end), fold(records))


async def position(connection: Any) -> int | None:
    found: int | None = await connection.fetchval("SELECT next_offset FROM redrive.positions WHERE topic = $1", TOPIC)
    return found
