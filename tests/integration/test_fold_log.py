"""A fold of several partitions at once, on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from processors.store import Written
from replay.log.folding import LogFold, NoSteps
from replay.selection.selection import Range

PARTS = (Range("t", 0, 0, 1), Range("t", 1, 0, 1))


class Log:
    """A batch of one record in each of two partitions."""

    async def read(self, ranges: Sequence[Range]) -> AsyncIterator[tuple[Range, list[Any]]]:
        for part in ranges:
            yield part, [part.partition]


class Crossing:
    """Two batches that lock the same two rows, at first in opposite orders: for certain a deadlock."""

    def __init__(self) -> None:
        self.tries = 0
        self._both = asyncio.Barrier(2)

    def fold(self, raw: Any) -> Any:
        return raw

    async def commit(
        self,
        connection: Any,
        records: Sequence[Any],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Written], Awaitable[None]],
    ) -> Any:
        self.tries += 1
        rows = [0, 1] if records == [0] else [1, 0]
        async with connection.transaction():
            await connection.execute("UPDATE rows SET tries = tries + 1 WHERE id = $1", rows[0])
            if self.tries <= 2:
                await self._both.wait()
            await connection.execute("UPDATE rows SET tries = tries + 1 WHERE id = $1", rows[1])


async def test_a_batch_that_lost_a_deadlock_to_another_one_of_the_fold_is_folded_again(
    pool: Any, connection: Any
) -> None:
    await connection.execute(
        "CREATE TABLE rows (id integer PRIMARY KEY, tries integer NOT NULL DEFAULT 0); INSERT INTO rows VALUES (0), (1)"
    )
    folding = Crossing()
    done: list[Range] = []
    await LogFold(pool, folding, NoSteps(), done.append).run(Log(), PARTS)
    assert sorted(done, key=lambda part: part.partition) == list(PARTS)
    assert folding.tries == 3
    assert [row["tries"] for row in await connection.fetch("SELECT tries FROM rows")] == [2, 2]
