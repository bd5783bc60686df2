"""The quarantine: deliveries whose signature failed, verified again with today's secrets.

What passes is appended to its source's topic as it arrived, with its original arrival; what still fails stays out. The
time of a signed timestamp is compared with the arrival: it was fresh then, or it never was.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, LiteralString

from replay import audit
from replay.audit import Author
from replay.ports import Append, Connection
from replay.selection import iso_of
from replay.window import LogReader
from schemas.envelope import LAST_MS, Delivery, Identity, VerifiedDelivery, delivery_of
from schemas.errors import InvalidSelection, RejectedDelivery, Unavailable
from schemas.providers import identify, verify
from schemas.quarantine import DROPPED_TYPE, Dropped
from schemas.settings import Source
from schemas.topics import QUARANTINE

ACTION: Final = "quarantine.release"
_LOCK: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtext('redrive.quarantine'))"
_UNLOCK: Final[LiteralString] = "SELECT pg_advisory_unlock(hashtext('redrive.quarantine'))"
_RELEASED: Final[LiteralString] = "SELECT partition, record_offset FROM redrive.releases"
_KNOWN: Final[LiteralString] = """
    SELECT source, record_id, fingerprint FROM redrive.releases
    WHERE (source, record_id, fingerprint) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]))
"""
_NOTE: Final[LiteralString] = """
    INSERT INTO redrive.releases (partition, record_offset, source, record_id, fingerprint, location)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""

Content = tuple[str, str, bytes]
"""(source, record id, fingerprint): what makes two deliveries copies of one."""


@dataclass(frozen=True, slots=True)
class Held:
    """A quarantined delivery, and where it is."""

    partition: int
    offset: int
    delivery: Delivery


@dataclass(slots=True)
class Holdings:
    """What the quarantine holds of one source. Times are arrivals in milliseconds."""

    held: int = 0
    released: int = 0
    verify_now: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    dropped: dict[int, int] = field(default_factory=dict)
    """Minute -> deliveries that the limits kept out."""

    def as_document(self) -> dict[str, Any]:
        minutes = {iso_of(minute): count for minute, count in sorted(self.dropped.items())}
        return {
            "held": self.held,
            "released": self.released,
            "verify_now": self.verify_now,
            "first_arrival": iso_of(self.first_ms),
            "last_arrival": iso_of(self.last_ms),
            "dropped": minutes,
        }


@dataclass(frozen=True, slots=True)
class Order:
    """What a release needs to be one, and not a dry run: who wants it and why, and how to append."""

    author: Author
    append: Append


@dataclass(slots=True)
class Release:
    """What a release did, or in a dry run would do."""

    released: int = 0
    duplicates: int = 0
    still_failing: int = 0
    released_before: int = 0


def of_source(held: Mapping[str, Holdings], source: str, configured: Collection[str]) -> dict[str, Holdings]:
    """What is held of one, which may be nothing. Raises `InvalidSelection` for a name that is no source's."""
    if source not in held and source not in configured:
        known = ", ".join(sorted({*held, *configured})) or "none"
        raise InvalidSelection(f"no source is called {source[:60]!r}; there are: {known}")
    return {name: one for name, one in held.items() if name == source}


class Quarantine:
    """`sources` and `public_url` are today's."""

    def __init__(
        self, reader: LogReader, connection: Connection, sources: Mapping[str, Source], public_url: str | None
    ) -> None:
        self._reader = reader
        self._connection = connection
        self._sources = sources
        self._public_url = public_url

    async def holdings(self, advance: Callable[[int], None]) -> dict[str, Holdings]:
        """What is held, by source. `advance` hears offsets read."""
        found: dict[str, Holdings] = {}
        released = await self._released()
        async for part in self._read(advance):
            for one in part:
                if isinstance(one, Dropped):
                    dropped = found.setdefault(one.source, Holdings()).dropped
                    dropped[one.minute_ms] = dropped.get(one.minute_ms, 0) + one.deliveries
                    continue
                entry = found.setdefault(one.delivery.source, Holdings())
                entry.held += 1
                entry.released += (one.partition, one.offset) in released
                entry.verify_now += self._verified(one) is not None
                arrived_ms = one.delivery.arrived_ms
                entry.first_ms = min(arrived_ms, arrived_ms if entry.first_ms is None else entry.first_ms)
                entry.last_ms = max(arrived_ms, arrived_ms if entry.last_ms is None else entry.last_ms)
        return found

    async def release(self, names: Sequence[str], order: Order | None, advance: Callable[[int], None]) -> Release:
        """Append what verifies now, on record from before the first append. Without an order nothing is written.

        Raises `Unavailable`, and `InvalidSelection` for an operator or a reason that the audit can't take.
        """
        if not await self._connection.fetchval(_LOCK):
            raise Unavailable("another release of the quarantine is under way; wait for its end")
        try:
            done = Release()
            if order is None:
                await self._release(frozenset(names), None, advance, done)
            else:
                await self._release_on_record(names, order, advance, done)
            return done
        finally:
            await self._connection.execute(_UNLOCK)

    async def _release_on_record(
        self, names: Sequence[str], order: Order, advance: Callable[[int], None], done: Release
    ) -> None:
        async def note(outcome: str, **counts: int) -> None:
            operator, reason = order.author
            await audit.note(self._connection, operator, ACTION, reason, sources=list(names), outcome=outcome, **counts)

        await note("begun")
        outcome = "failed"
        try:
            await self._release(frozenset(names), order.append, advance, done)
            outcome = "done"
        finally:
            await note(outcome, **asdict(done))

    async def _release(
        self, names: frozenset[str], append: Append | None, advance: Callable[[int], None], done: Release
    ) -> None:
        seen = set[Content]()
        released = await self._released()
        async for part in self._read(advance):
            passing: list[tuple[Held, VerifiedDelivery, Identity]] = []
            for one in part:
                if isinstance(one, Dropped) or one.delivery.source not in names:
                    continue
                if (one.partition, one.offset) in released:
                    done.released_before += 1
                    continue
                verified = self._verified(one)
                if verified is None:
                    done.still_failing += 1
                    continue
                passing.append((one, verified, identify(self._sources[one.delivery.source].provider, verified)))
            await self._append_new(passing, seen, append, done)

    async def _append_new(
        self,
        passing: Sequence[tuple[Held, VerifiedDelivery, Identity]],
        seen: set[Content],
        append: Append | None,
        done: Release,
    ) -> None:
        """A provider retries what got a 401, so one event may be here many times: the first copy stands for all."""
        contents = [(one.delivery.source, identity.record_id, identity.fingerprint) for one, _, identity in passing]
        columns = [list(column) for column in zip(*contents, strict=True)] or [[], [], []]
        seen |= {tuple(row) for row in await self._connection.fetch(_KNOWN, *columns)}
        new: list[tuple[Held, Content, tuple[Source, VerifiedDelivery, Identity]]] = []
        rows: list[tuple[int, int, str, str, bytes, str | None]] = []
        for (one, verified, identity), content in zip(passing, contents, strict=True):
            if content in seen:
                rows.append((one.partition, one.offset, *content, None))
            else:
                seen.add(content)
                new.append((one, content, (self._sources[one.delivery.source], verified, identity)))
        locations = await append([record for _, _, record in new]) if append is not None else []
        done.duplicates += len(rows)
        done.released += len(new)
        if append is None:
            return
        rows += [
            (one.partition, one.offset, *content, str(location))
            for (one, content, _), location in zip(new, locations, strict=True)
        ]
        # After the append: a crash in between costs a second copy on the log, which changes no table.
        await self._connection.executemany(_NOTE, rows)

    async def _released(self) -> set[tuple[int, int]]:
        return {(row["partition"], row["record_offset"]) for row in await self._connection.fetch(_RELEASED)}

    def _verified(self, one: Held) -> VerifiedDelivery | None:
        source = self._sources.get(one.delivery.source)
        if source is None:
            return None
        try:
            verified = verify(source.provider, one.delivery, source.secrets, one.delivery.arrived_ms / 1000)
        except RejectedDelivery:
            return None
        return verified._replace(provenance="released")

    async def _read(self, advance: Callable[[int], None]) -> AsyncIterator[list[Held | Dropped]]:
        """All of it, in parts; what somebody else wrote into the topic is passed over."""
        ranges = await self._reader.tails(QUARANTINE, 2**62)
        async for part, records in self._reader.read(ranges):
            found = [self._decoded(record) for record in records]
            yield [one for one in found if one is not None]
            advance(len(part))

    def _decoded(self, record: Any) -> Held | Dropped | None:
        try:
            if dict(record.headers).get("ce_type") == DROPPED_TYPE.encode():
                return Dropped.decode(record.value)
            arrived_ms = min(max(record.timestamp, 0), LAST_MS)
            delivery = delivery_of(record.headers, record.value, arrived_ms, self._public_url)
        except (KeyError, ValueError, TypeError, AttributeError):
            return None
        return Held(record.partition, record.offset, delivery)
