"""The keyed table of `bench.subjects.keyed_table` for peers without asyncio: same merge, same statement.

The offset that follows is kept beside the rows, in their transaction: no peer needs that or resumes from it, but it
tells the benchmark how far it is, as it does for redrive.
"""

from collections.abc import Iterable

import orjson
import psycopg

_CREATE = "CREATE TABLE IF NOT EXISTS keyed (key integer PRIMARY KEY, value bigint NOT NULL, type text NOT NULL)"
_UPSERT = """
    INSERT INTO keyed AS t SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[])
    ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, type = EXCLUDED.type WHERE EXCLUDED.value >= t.value
"""
_ADVANCE = """
    INSERT INTO redrive.positions SELECT live, $1, $2, $3 FROM redrive.generation
    ON CONFLICT (generation, topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset
"""


class KeyedSink:
    """Batches of one partition, one transaction each."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor)
        self._connection.execute(_CREATE)

    def write(self, topic: str, partition: int, next_offset: int, values: Iterable[bytes]) -> None:
        rows: dict[int, tuple[int, str]] = {}
        for value in values:
            event = orjson.loads(value)
            key, number = event["key"], event["value"]
            if key not in rows or number >= rows[key][0]:
                rows[key] = (number, event["type"])
        keys = sorted(rows)
        with self._connection.transaction():
            self._connection.execute(_ADVANCE, (topic, partition, next_offset))
            self._connection.execute(_UPSERT, (keys, [rows[key][0] for key in keys], [rows[key][1] for key in keys]))
