"""What the two baselines of the fold share: the very same projections and upserts as redrive's own workers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import asyncpg

from processors.fold import fold_record
from processors.outcome import RawRecord
from processors.store import ADVANCE, LIVE_GENERATION, PositionGap, Span, Store
from replay.tables.folding import NoDeadLetters

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Fold:
    """Records into the live generation, with the positions of every partition that they come from."""

    def __init__(self, connection: Connection, store: Store) -> None:
        self._connection = connection
        self._store = store

    @classmethod
    async def open(cls, url: str) -> "Fold":
        connection = await asyncpg.connect(url)
        return cls(connection, Store(await connection.fetchval(LIVE_GENERATION), NoDeadLetters()))

    async def write(self, records: Sequence[RawRecord], spans: Sequence[Span]) -> None:
        """One transaction, however many partitions: the cheapest that a loop without a framework can be."""
        folded = [fold_record(record) for record in records]
        advance = advance_all(self._connection, self._store.generation, spans)
        await self._store.commit(self._connection, folded, advance)


def advance_all(connection: Connection, generation: int, spans: Sequence[Span]) -> Callable[[], Awaitable[None]]:
    """The positions of several partitions, in the transaction of their rows."""

    async def advance() -> None:
        for span in sorted(spans, key=lambda one: one.partition):
            row = await connection.fetchrow(ADVANCE, generation, span.topic, span.partition, span.start, span.end)
            if row is None or not row["is_advanced"]:
                raise PositionGap(row["stored"] if row else 0)

    return advance
