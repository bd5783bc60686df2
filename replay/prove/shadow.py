"""The log folded into temporary tables of one session, which are gone with it. Must not look at the live tables.

Temporary, so that a killed process leaves nothing behind, and whoever may log in may do it.
"""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import asyncpg

from processors.outcome import Folded, RawRecord
from processors.store import Written
from replay.log.folding import LogFold
from replay.ports import Advance, BatchReader, Connection
from replay.selection.selection import Range
from replay.tables.folding import SchemaFolding
from replay.tables.read_models import SESSION, create_facts
from schemas.errors import Misconfigured
from schemas.topics import TopicPartition

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
_INSERT_DEAD: Final[LiteralString] = """
    INSERT INTO pg_temp._dead SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[])
"""
_NOT_DEAD: Final[LiteralString] = """
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[])
        AS asked (topic, partition, record_offset, ordinal)
    EXCEPT SELECT * FROM pg_temp._dead
"""
# Events of which the index says that they were where the log lost something, until the fold has seen them.
_SOUGHT_TABLE: Final[LiteralString] = """
    CREATE TEMPORARY TABLE _sought (
        range integer, record_offset bigint, source text COLLATE "C", event_id text COLLATE "C"
    )
"""
_INSERT_SOUGHT: Final[LiteralString] = """
    INSERT INTO pg_temp._sought
    SELECT lost.range, i.record_offset, i.source, i.event_id
    FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
         WITH ORDINALITY AS lost (topic, partition, first_offset, end_offset, range)
    JOIN redrive.event_index AS i
      ON i.topic = lost.topic AND i.partition = lost.partition
     AND i.record_offset >= lost.first_offset AND i.record_offset < lost.end_offset
"""
_SOUGHT_INDEX: Final[LiteralString] = "CREATE INDEX ON pg_temp._sought (event_id, source)"
_COUNT_SOUGHT_RECORDS: Final[LiteralString] = """
    SELECT range, count(DISTINCT record_offset) AS found FROM pg_temp._sought GROUP BY range
"""
_DELETE_FOUND: Final[LiteralString] = """
    DELETE FROM pg_temp._sought AS s USING unnest($1::text[], $2::text[]) AS seen (source, event_id)
    WHERE s.source = seen.source AND s.event_id = seen.event_id
"""
_COUNT_MISSING_EVENTS: Final[LiteralString] = """
    SELECT range, count(DISTINCT (source, event_id)) AS found FROM pg_temp._sought GROUP BY range
"""
_PLACE: Final = struct.Struct(">qq")
_LENGTH: Final = struct.Struct(">i")


DeadEventPosition = tuple[str, int, int, int]
"""The location of an event: topic, partition, offset and ordinal."""


@dataclass(frozen=True, slots=True)
class Sought:
    """For a lost range: how many offsets the index knows, and how many of their events the fold did not see."""

    offsets: int = 0
    missing: int = 0


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

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.digests: dict[TopicPartition, RecordDigest] = {}
        self.dead = 0
        self._sought: list[Range] = []
        self._known: dict[int, int] = {}

    @property
    def records(self) -> int:
        return sum(digest.records for digest in self.digests.values())

    async def open(self) -> None:
        """The tables. Raises `Misconfigured` for a login that may make none."""
        try:
            await self.connection.execute(_BUFFERS)
            await create_facts(self.connection, SCHEMA)
            await self.connection.execute(_DEAD_TABLE)
        except asyncpg.InsufficientPrivilegeError as error:
            raise Misconfigured(f"a proof needs temporary tables, GRANT TEMPORARY ON DATABASE …: {error}") from error

    async def seek(self, ranges: Sequence[Range], snapshot: str) -> None:
        """Look out, while the log is folded, for every event that the index knows of these ranges, as of a snapshot."""
        if not ranges:
            return
        self._sought = list(ranges)
        parts = [(part.topic, part.partition, part.start, part.end) for part in ranges]
        await self.connection.execute(_SOUGHT_TABLE)
        async with self.connection.transaction(isolation="repeatable_read"):
            await self.connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            await self.connection.execute(_INSERT_SOUGHT, *zip(*parts, strict=True))
        await self.connection.execute(_SOUGHT_INDEX)
        self._known = {row["range"]: row["found"] for row in await self.connection.fetch(_COUNT_SOUGHT_RECORDS)}

    async def seen(self) -> dict[Range, Sought]:
        """The result for each of these ranges, once the log is folded."""
        if not self._sought:
            return {}
        missing = {row["range"]: row["found"] for row in await self.connection.fetch(_COUNT_MISSING_EVENTS)}
        return {
            part: Sought(self._known.get(number, 0), missing.get(number, 0))
            for number, part in enumerate(self._sought, start=1)
        }

    async def fold(self, reader: BatchReader, ranges: Sequence[Range], advance: Advance) -> None:
        """Once. Raises what reading, or the database, raises."""
        self.digests = {(part.topic, part.partition): RecordDigest() for part in ranges}
        total, done = sum(map(len, ranges)), 0

        def count(part: Range) -> None:
            nonlocal done
            done += len(part)
            advance(done, total)

        turns = _Turns(self.connection, SchemaFolding.into(SCHEMA))
        await LogFold(turns, turns, self, count).run(reader, ranges)

    async def not_dead(self, locations: Sequence[DeadEventPosition]) -> list[DeadEventPosition]:
        """Those that the fold could apply."""
        rows = await self.connection.fetch(_NOT_DEAD, *zip(*locations, strict=True))
        return sorted((row["topic"], row["partition"], row["record_offset"], row["ordinal"]) for row in rows)

    async def before(self, connection: Connection, part: Range) -> None:
        return None

    async def after(self, connection: Connection, part: Range, records: Sequence[Folded], outcome: Written) -> None:
        digest = self.digests[part.topic, part.partition]
        for record in records:
            digest.add(record.raw)
        if self._sought and records:
            names = [name for record in records for name in record.names]
            await connection.execute(_DELETE_FOUND, *zip(*names, strict=True))
        if outcome.letters:
            self.dead += outcome.dead
            found = [(one.raw.topic, one.raw.partition, one.raw.offset, one.ordinal) for one in outcome.letters]
            await connection.execute(_INSERT_DEAD, *zip(*found, strict=True))


class _Turns:
    """One connection for every lane of a fold: while Postgres works on a batch, the next one is decoded."""

    def __init__(self, connection: Connection, folding: SchemaFolding) -> None:
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
        last: Callable[[Written], Awaitable[None]],
    ) -> Written:
        async with self._turn:
            return await self._folding.commit(connection, records, first, last)
