"""The log folded into temporary tables of one session, which are gone with it. Must not look at the live tables.

Temporary, so that a killed process leaves nothing behind, and whoever may log in may do it.
"""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, LiteralString

import asyncpg

from replay.fold_log import LogFold
from replay.ports import Connection, FoldedRecord, Folding, Outcome, RawRecord, Reading
from replay.read_models import SESSION, create_facts
from replay.selection import Range
from schemas.errors import Misconfigured

SCHEMA: Final = SESSION
_BUFFERS: Final[LiteralString] = "SET temp_buffers = '64MB'"
"""Temporary tables have no share in the server's buffers."""

# No table's name starts like this.
_DEAD_TABLE: Final[LiteralString] = """
    CREATE TEMPORARY TABLE _dead (
        topic text, partition integer, record_offset bigint, ordinal integer,
        PRIMARY KEY (topic, partition, record_offset, ordinal)
    )
"""
_NOTE_DEAD: Final[LiteralString] = """
    INSERT INTO pg_temp._dead SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[])
"""
_NOT_DEAD: Final[LiteralString] = """
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[])
        AS asked (topic, partition, record_offset, ordinal)
    EXCEPT SELECT * FROM pg_temp._dead
"""
_PLACE: Final = struct.Struct(">qq")
_LENGTH: Final = struct.Struct(">i")

Advance = Callable[[int, int], None]
"""(offsets done, of how many)."""

Partition = tuple[str, int]
Location = tuple[str, int, int, int]
"""Of an event: topic, partition, offset and ordinal."""


class RecordDigest:
    """SHA-256 of what the records of a partition hold, in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.records = 0

    def add(self, raw: RawRecord) -> None:
        parts = [_PLACE.pack(raw.offset, raw.timestamp), *_counted(raw.value), _LENGTH.pack(len(raw.headers))]
        for name, value in raw.headers:
            parts += _counted(name.encode())
            parts += _counted(value)
        self._digest.update(b"".join(parts))
        self.records += 1

    def hex(self) -> str:
        return self._digest.hexdigest()


def _counted(value: bytes | None) -> tuple[bytes, bytes]:
    """With its length in front, -1 for none: no two records are one text."""
    return (_LENGTH.pack(-1), b"") if value is None else (_LENGTH.pack(len(value)), value)


class Shadow:
    """Fact tables on a connection that nothing else uses."""

    def __init__(self, connection: Connection, folding: Folding) -> None:
        """`folding` folds into `SCHEMA`."""
        self.connection = connection
        self._folding = folding
        self.digests: dict[Partition, RecordDigest] = {}
        self.dead = 0

    @property
    def records(self) -> int:
        return sum(digest.records for digest in self.digests.values())

    async def fold(self, reader: Reading, ranges: Sequence[Range], advance: Advance) -> None:
        """Once. Raises what reading, or the database, raises."""
        try:
            await self.connection.execute(_BUFFERS)
            await create_facts(self.connection, SCHEMA)
            await self.connection.execute(_DEAD_TABLE)
        except asyncpg.InsufficientPrivilegeError as error:
            raise Misconfigured(f"a proof needs temporary tables, GRANT TEMPORARY ON DATABASE …: {error}") from error
        self.digests = {(part.topic, part.partition): RecordDigest() for part in ranges}
        total, done = sum(map(len, ranges)), 0

        def count(part: Range) -> None:
            nonlocal done
            done += len(part)
            advance(done, total)

        turns = _Turns(self.connection, self._folding)
        await LogFold(turns, turns, self, count).run(reader, ranges)

    async def not_dead(self, locations: Sequence[Location]) -> list[Location]:
        """Those that the fold could apply."""
        rows = await self.connection.fetch(_NOT_DEAD, *zip(*locations, strict=True))
        return sorted((row["topic"], row["partition"], row["record_offset"], row["ordinal"]) for row in rows)

    async def before(self, connection: Connection, part: Range) -> None:
        return None

    async def after(
        self, connection: Connection, part: Range, records: Sequence[FoldedRecord], outcome: Outcome
    ) -> None:
        digest = self.digests[part.topic, part.partition]
        for record in records:
            digest.add(record.raw)
        if outcome.letters:
            self.dead += outcome.dead
            found = [(one.raw.topic, one.raw.partition, one.raw.offset, one.ordinal) for one in outcome.letters]
            await connection.execute(_NOTE_DEAD, *zip(*found, strict=True))


class _Turns:
    """One connection for every lane of a fold: while Postgres works on a batch, the next one is decoded."""

    def __init__(self, connection: Connection, folding: Folding) -> None:
        self._connection = connection
        self._folding = folding
        self._turn = asyncio.Lock()
        self.fold = folding.fold

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        yield self._connection

    async def commit(
        self,
        connection: Connection,
        records: Sequence[Any],
        first: Callable[[], Awaitable[None]],
        last: Callable[[Outcome], Awaitable[None]],
    ) -> Outcome:
        async with self._turn:
            return await self._folding.commit(connection, records, first, last)
