"""A fold next to nothing: JSON into one keyed table, so that what is measured is how records reach it."""

from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import orjson

from bench.subjects.folding import Connection, advance_all
from processors.outcome import RawRecord
from processors.store import LIVE_GENERATION, Span

_CREATE = "CREATE TABLE IF NOT EXISTS keyed (key integer PRIMARY KEY, value bigint NOT NULL, type text NOT NULL)"
_UPSERT = """
    INSERT INTO keyed AS t SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[])
    ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, type = EXCLUDED.type WHERE EXCLUDED.value >= t.value
"""


class KeyedTable:
    """The interface of `Fold`: records and positions, in one transaction."""

    def __init__(self, connection: Connection, generation: int) -> None:
        self._connection = connection
        self._generation = generation

    @classmethod
    async def open(cls, url: str) -> "KeyedTable":
        connection = await asyncpg.connect(url)
        await connection.execute(_CREATE)
        return cls(connection, await connection.fetchval(LIVE_GENERATION))

    async def write(self, records: Sequence[RawRecord], spans: Sequence[Span]) -> None:
        rows: dict[int, tuple[int, str]] = {}
        for record in records:
            event = orjson.loads(record.value or b"")
            key, value = event["key"], event["value"]
            # Records of several partitions are in no order, so the statement's guard must hold within a batch, too.
            if key not in rows or value >= rows[key][0]:
                rows[key] = (value, event["type"])
        keys = sorted(rows)
        advance: Callable[[], Awaitable[None]] = advance_all(self._connection, self._generation, spans)
        async with self._connection.transaction():
            await advance()
            await self._connection.execute(
                _UPSERT, keys, [rows[key][0] for key in keys], [rows[key][1] for key in keys]
            )
