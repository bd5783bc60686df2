"""Proves that the live tables are what the log says: both hashed at one cut, compared, and every difference named.

Reads the live tables and writes to none: the log is folded into temporary ones.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, LiteralString

import asyncpg

from processors.projections import versions
from processors.store import LIVE_GENERATION
from replay.audit import Author
from replay.log.fold_lag import by_topic, fold_lag
from replay.ports import Advance, Connection, Log
from replay.prove.certificate import (
    Behind,
    Certificate,
    Counts,
    Difference,
    Loss,
    PartitionProof,
    TableProof,
    verdict_of,
)
from replay.prove.held import held_below
from replay.prove.losses import ended_losses, judge, lost_ranges, unfolded_ranges
from replay.prove.merkle import TableHash, canonical_columns, hash_table
from replay.prove.mismatch import Differences, Side, compare
from replay.prove.shadow import SCHEMA, DeadEventPosition, Shadow
from replay.prove.views import NOTHING_CONFIGURED, Configured, compare_price_tiers, compare_views
from replay.selection.selection import Range
from replay.tables.generations import versions_of
from schemas.errors import Misconfigured
from schemas.facts import TABLES
from schemas.lattice import Table

_FOLDED_POSITIONS: Final[LiteralString] = """
    SELECT topic, partition, next_offset FROM redrive.positions
    WHERE generation = $1 AND next_offset > 0 ORDER BY topic, partition
"""
_EXPORT_SNAPSHOT: Final[LiteralString] = "SELECT pg_export_snapshot()"
_COUNT_DUPLICATES: Final[LiteralString] = """
    SELECT count(*) AS events, coalesce(sum(locations), 0)::bigint - count(*) AS duplicates
    FROM (SELECT count(*) AS locations FROM redrive.event_index GROUP BY source, event_id) AS events
"""
_DEAD_EVENTS: Final[LiteralString] = """
    SELECT DISTINCT topic, partition, record_offset, ordinal FROM redrive.event_index WHERE status = 'dead'
    ORDER BY topic, partition, record_offset
"""

_NO_LIMITS: Final[LiteralString] = """
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0
"""
"""The cut is held for as long as the log is folded."""

_LOOKED_UP: Final = 1000


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of redrive and of each projection that folds here."""

    redrive: str
    projections: Mapping[str, int]

    @classmethod
    def of_this_process(cls) -> "Versions":
        return cls(version("redrive"), dict(sorted(versions().items())))


@dataclass(frozen=True, slots=True)
class Cut:
    """The live generation at one moment, as one snapshot sees it."""

    generation: int
    positions: dict[tuple[str, int], int]
    lost: dict[Range, str]
    """The ranges that were found lost during the fold."""
    unfolded: frozenset[Range]
    """Those of which a part was never folded."""
    ended: dict[Range, Loss]
    reasons: list[str]
    """Why it can't be known whether its tables are right."""
    events: int
    duplicates: int


def other_code(folded_by: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Which of the projections that folded something are not those of now."""
    return [
        f"folded by version {version} of the projection {name}, and this is version {now.get(name, 'none')}"
        for name, version in sorted(folded_by.items())
        if now.get(name) != version
    ]


class Prover:
    """One proof. `live` and `shadow` are connections that nothing else uses."""

    def __init__(
        self,
        live: Connection,
        shadow: Connection,
        versions: Versions,
        configured: Configured = NOTHING_CONFIGURED,
    ) -> None:
        self._live = live
        self._shadow = Shadow(shadow)
        self._versions = versions
        self._configured = configured

    async def prove(self, reader: Log, advance: Advance, accepting: Author | None = None) -> Certificate:
        """Prove the live generation as it is now. `accepting`: the author and reason of an acceptance of losses, to be
        written down with `record_ends`. Raises `Misconfigured`, and the errors of the log and the database.
        """
        async with self._live.transaction(isolation="repeatable_read", readonly=True):
            await self._live.execute(_NO_LIMITS)
            try:
                return await self._prove(reader, advance, accepting)
            except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError) as error:
                text = f"the live tables are not this version's: {error}; run `redrive migrate --apply`"
                raise Misconfigured(text) from error

    async def _prove(self, reader: Log, advance: Advance, accepting: Author | None) -> Certificate:
        cut = await self._cut()
        behind = await self._behind(reader, cut)
        schema = f"gen_{cut.generation}"
        hashes = {table: await hash_table(self._live, schema, table) for table in TABLES}
        found = Differences()
        views = await self._compare_views(found)
        held = await held_below(reader, cut.positions)
        lost = {**held.lost, **cut.lost}
        await self._shadow.open()
        if lost:
            await self._shadow.seek([*lost], await self._live.fetchval(_EXPORT_SNAPSHOT))
        await self._shadow.fold(reader, held.ranges, advance)
        tables = await self._compare_tables(schema, hashes, found)
        await self._compare_dead(held.ranges, found)
        losses, unknown = judge(lost, cut.unfolded, cut.ended, await self._shadow.seen(), accepting)
        reasons = [*unknown, *cut.reasons, *held.reasons]
        return Certificate(
            verdict=verdict_of(reasons, tables, found.total),
            reasons=reasons,
            tables=tables,
            differences=sorted(found.listed, key=lambda one: (one.table, [*one.key.values()])),
            differences_total=found.total,
            views=views,
            losses=losses,
            behind=behind,
            counts=Counts(
                records=self._shadow.records,
                events=cut.events,
                duplicates=cut.duplicates,
                dead_letters=self._shadow.dead,
            ),
            positions=self._partitions(cut.positions),
            generation=cut.generation,
            versions=dict(self._versions.projections),
            made_at=datetime.now(UTC),
            redrive=self._versions.redrive,
        ).sealed()

    async def _behind(self, reader: Log, cut: Cut) -> Behind:
        """The records that have arrived beyond the cut."""
        topics = by_topic(await fold_lag(reader, cut.positions))
        return Behind(records=sum(topics.values()), topics=topics, as_of=datetime.now(UTC))

    async def _compare_views(self, found: Differences) -> list[str]:
        """Before the shadow has tables: SQL of users may name one without its schema, and means that of `public`."""
        try:
            compared, others = await compare_views(self._shadow.connection, self._configured.declared)
        except asyncpg.InsufficientPrivilegeError as error:
            raise Misconfigured(f"a proof needs temporary views, GRANT TEMPORARY ON DATABASE …: {error}") from error
        for one in others:
            found.add(one.as_difference())
        for tier in await compare_price_tiers(self._live, self._configured.price_tiers):
            found.add(tier)
        return compared

    async def _compare_tables(
        self, schema: str, hashes: Mapping[Table[Any], TableHash], found: Differences
    ) -> dict[str, TableProof]:
        tables = {}
        async with self._shadow.connection.transaction():
            live, log = Side(self._live, schema), Side(self._shadow.connection, SCHEMA)
            for table in TABLES:
                folded = await hash_table(log.connection, SCHEMA, table)
                tables[table.name] = TableProof(
                    columns=[column.name for column in canonical_columns(table)],
                    rows=hashes[table].rows,
                    root=hashes[table].root,
                    log_rows=folded.rows,
                    log_root=folded.root,
                )
                if buckets := hashes[table].differing(folded):
                    await compare(live, log, table, buckets, found)
        return tables

    async def _cut(self) -> Cut:
        generation = await self._live.fetchval(LIVE_GENERATION)
        positions = {(row[0], row[1]): row[2] for row in await self._live.fetch(_FOLDED_POSITIONS, generation)}
        folded_by = await versions_of(self._live, generation)
        reasons = [
            f"generation {generation} was {text}: `redrive rebuild`"
            for text in other_code(folded_by, self._versions.projections)
        ]
        (counts,) = await self._live.fetch(_COUNT_DUPLICATES)
        lost, ended = await lost_ranges(self._live, generation), await ended_losses(self._live)
        unfolded = await unfolded_ranges(self._live, generation)
        return Cut(generation, positions, lost, unfolded, ended, reasons, counts["events"], counts["duplicates"])

    def _partitions(self, positions: Mapping[tuple[str, int], int]) -> list[PartitionProof]:
        found = []
        for (topic, partition), next_offset in positions.items():
            digest = self._shadow.digests.get((topic, partition))
            found.append(
                PartitionProof(
                    topic=topic,
                    partition=partition,
                    next_offset=next_offset,
                    records=digest.records if digest else 0,
                    sha256=digest.hex() if digest else "",
                )
            )
        return found

    async def _compare_dead(self, ranges: Sequence[Range], found: Differences) -> None:
        """Events that are dead in the live index, and that the fold could apply."""
        folded = {(part.topic, part.partition): part for part in ranges}
        async for topic, partition, offset, ordinal in self._applied(folded):
            key = {"topic": topic, "partition": str(partition), "record_offset": str(offset)}
            if ordinal:
                key["ordinal"] = str(ordinal)
            found.add(Difference(table="webhook_events", key=key, columns=["status"], kind="dead"))

    async def _applied(self, folded: Mapping[tuple[str, int], Range]) -> AsyncIterator[DeadEventPosition]:
        asked: list[DeadEventPosition] = []
        async for row in self._live.cursor(_DEAD_EVENTS, prefetch=_LOOKED_UP):
            part = folded.get((row["topic"], row["partition"]))
            if part is not None and part.start <= row["record_offset"] < part.end:
                asked.append((row["topic"], row["partition"], row["record_offset"], row["ordinal"]))
            if len(asked) == _LOOKED_UP:
                for location in await self._shadow.not_dead(asked):
                    yield location
                asked = []
        if asked:
            for location in await self._shadow.not_dead(asked):
                yield location
