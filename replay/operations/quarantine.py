"""The quarantine: deliveries that did not verify when they came, read and verified again with today's secrets.

The time that a delivery signs is compared with its arrival: it was fresh then, or it never was. Must not append.
"""

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from replay.log.reader import LogReader
from replay.operations.events import Reveal, note_reveal, shown_record
from replay.operations.holdings import Holdings
from replay.ports import Connection
from replay.selection.patterns import require_window
from replay.selection.selection import Range, iso_of, require_known
from schemas.envelope import ARRIVED, LAST_MS, REJECTION, Delivery, Location, VerifiedDelivery, delivery_of
from schemas.errors import REJECTIONS, InvalidSelection, Misconfigured, NotFound, RejectedDelivery
from schemas.masking import mask_text
from schemas.providers import identify, verify
from schemas.providers.base import body_record_id
from schemas.quarantine import DROPPED_TYPE, DroppedDeliveries
from schemas.settings import Source
from schemas.topics import QUARANTINE, is_source_name

UNTIMELY: Final = "timestamp_outside_tolerance"
UNKNOWN: Final = "unknown"
"""The reason of a record that somebody else wrote into the topic."""

_LOCATION: Final = re.compile(rf"(?:{re.escape(QUARANTINE)}/)?(\d{{1,9}})/(\d{{1,18}})\Z", re.ASCII)
_LIST_RELEASES: Final[LiteralString] = """
    SELECT partition, record_offset, source, record_id, fingerprint FROM redrive.releases
"""
_RELEASE_OF_OFFSET: Final[LiteralString] = """
    SELECT location, released_at, source, record_id, fingerprint FROM redrive.releases
    WHERE partition = $1 AND record_offset = $2
"""

ReleasedContent = tuple[str, str, bytes]
"""(source, record id, fingerprint): what makes two deliveries copies of one."""


class UnknownDelivery(NotFound):
    """The quarantine holds no delivery there."""


@dataclass(frozen=True, slots=True)
class QuarantinedDelivery:
    """A quarantined delivery, where it is, and why it was refused."""

    partition: int
    offset: int
    delivery: Delivery
    reason: str

    @property
    def location(self) -> Location:
        return Location(QUARANTINE, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Reverification:
    """The result of verifying a quarantined delivery now: `verified`, or the `code` of its rejection.

    `clock_off_seconds`, if the signature is right and only its time is not: how far our clock was ahead when it
    arrived, if it was sent at its signed time; negative: behind.
    """

    verified: VerifiedDelivery | None = None
    code: str | None = None
    signed_at_ms: int | None = None
    clock_off_seconds: int | None = None


def of_source(held: Mapping[str, Holdings], source: str, configured: Collection[str]) -> dict[str, Holdings]:
    """The deliveries held of one source, perhaps none. Raises `InvalidSelection` for an unknown source."""
    require_known([source], sorted({*held, *configured}))
    return {name: one for name, one in held.items() if name == source}


class QuarantineReader:
    """`sources` and `public_url` are today's."""

    def __init__(
        self, reader: LogReader, connection: Connection, sources: Mapping[str, Source], public_url: str | None
    ) -> None:
        self.connection = connection
        self.sources = sources
        self._reader = reader
        self._public_url = public_url

    async def holdings(
        self, advance: Callable[[int], None], from_ms: int | None = None, to_ms: int | None = None
    ) -> dict[str, Holdings]:
        """The held deliveries, by source; in a window, those that arrived in it. `advance` gets the offsets read.

        Raises `InvalidSelection` for an invalid window.
        """
        require_window(from_ms, to_ms)
        found: dict[str, Holdings] = {}
        released = await self.released()
        async for part in self.read(advance):
            for one in part:
                at = one.minute_ms if isinstance(one, DroppedDeliveries) else one.delivery.arrived_ms
                if (from_ms is not None and at < from_ms) or (to_ms is not None and at >= to_ms):
                    continue
                if isinstance(one, DroppedDeliveries):
                    found.setdefault(one.source, Holdings()).drop(one)
                    continue
                verdict = self.judge(one)
                found.setdefault(one.delivery.source, Holdings()).add(
                    at,
                    one.reason,
                    f"{one.partition}/{one.offset}",
                    is_released=self.is_released(one, verdict, released.get((one.partition, one.offset))),
                    verifies=verdict.verified is not None,
                    clock_off_seconds=verdict.clock_off_seconds,
                )
        return found

    async def show(self, partition: int, offset: int, reveal: Reveal | None) -> dict[str, Any]:
        """One delivery: why it was refused, whether it verifies now, its headers and its body.

        Raises `UnknownDelivery` or `Unavailable`; with `reveal`, whatever the audit raises, and then nothing is shown.
        """
        record = await self._reader.record(Range(QUARANTINE, partition, offset, offset + 1))
        held = None if record is None else self.decoded(record)
        if not isinstance(held, QuarantinedDelivery):
            raise UnknownDelivery(f"the quarantine holds no delivery at {partition}/{offset}")
        if reveal is not None:
            place = {"topic": QUARANTINE, "partition": partition, "record_offset": offset}
            entry = {"source": held.delivery.source, "event_id": body_record_id(held.delivery.body), **place}
            await note_reveal(self.connection, reveal, entry)
        release = await self.connection.fetchrow(_RELEASE_OF_OFFSET, partition, offset)
        verdict = self.judge(held)
        if release and not self.is_released(held, verdict, _content_of(release)):
            release = None
        source = held.delivery.source
        return {
            "location": str(held.location),
            "source": source if is_source_name(source) else mask_text(source),
            "reason": held.reason,
            "arrived_at": iso_of(held.delivery.arrived_ms),
            "verifies": verdict.verified is not None,
            "why_not": verdict.code,
            "signed_at": iso_of(verdict.signed_at_ms),
            "clock_off_seconds": verdict.clock_off_seconds,
            "released_at": release["released_at"] if release else None,
            "released_to": release["location"] if release else None,
            "redacted": reveal is None,
            **shown_record(record, reveal is not None),
        }

    async def released(self) -> dict[tuple[int, int], ReleasedContent]:
        """The released deliveries, by (partition, offset)."""
        rows = await self.connection.fetch(_LIST_RELEASES)
        return {(row["partition"], row["record_offset"]): _content_of(row) for row in rows}

    def is_released(self, one: QuarantinedDelivery, verdict: Reverification, content: ReleasedContent | None) -> bool:
        """True if `content`, which was released from its offset, is this delivery. After a topic was created again, an
        offset names another one. A delivery that does not verify now can't be named, nor released.
        """
        if content is None or one.delivery.source != content[0]:
            return False
        return verdict.verified is None or self.content(one, verdict.verified) == content

    def content(self, one: QuarantinedDelivery, verified: VerifiedDelivery) -> ReleasedContent:
        identity = identify(self.sources[one.delivery.source].provider, verified)
        return one.delivery.source, identity.record_id, identity.fingerprint

    def judge(self, one: QuarantinedDelivery, clock_off_ms: int = 0) -> Reverification:
        """By the current secrets. `clock_off_ms` is taken from the arrival: how far our clock was ahead then."""
        source = self.sources.get(one.delivery.source)
        if source is None:
            return Reverification(code="unknown_source")
        arrived_ms = min(max(one.delivery.arrived_ms - clock_off_ms, 0), LAST_MS)
        delivery = one.delivery._replace(arrived_ms=arrived_ms)
        try:
            verified = verify(source.provider, delivery, source.secrets, arrived_ms / 1000)
        except RejectedDelivery as rejection:
            if rejection.signed_at is None:
                return Reverification(code=rejection.rejection)
            off = round(arrived_ms / 1000 - rejection.signed_at)
            return Reverification(None, rejection.rejection, int(rejection.signed_at * 1000), off)
        except Misconfigured:
            # One source's fault: the deliveries of the others are verified all the same.
            return Reverification(code="misconfigured")
        return Reverification(verified._replace(provenance="released"))

    async def read(
        self, advance: Callable[[int], None]
    ) -> AsyncIterator[list[QuarantinedDelivery | DroppedDeliveries]]:
        """All of it, in parts; what somebody else wrote into the topic is passed over."""
        ranges = await self._reader.tails(QUARANTINE, 2**62)
        async for part, records in self._reader.read(ranges):
            found = [self.decoded(record) for record in records]
            yield [one for one in found if one is not None]
            advance(len(part))

    def decoded(self, record: Any) -> QuarantinedDelivery | DroppedDeliveries | None:
        """None for what is neither."""
        try:
            headers = dict(record.headers)
            if headers.get("ce_type") == DROPPED_TYPE.encode():
                return DroppedDeliveries.decode(record.value)
            # Older versions kept the arrival as the record's timestamp.
            arrived_ms = int(headers.get(ARRIVED, record.timestamp))
            delivery = delivery_of(record.headers, record.value, min(max(arrived_ms, 0), LAST_MS), self._public_url)
            reason = headers.get(REJECTION, b"").decode()
        except (KeyError, ValueError, TypeError, AttributeError):
            return None
        return QuarantinedDelivery(
            record.partition, record.offset, delivery, reason if reason in REJECTIONS else UNKNOWN
        )


def _content_of(release: Any) -> ReleasedContent:
    return release["source"], release["record_id"], release["fingerprint"]


def parse_location(text: str) -> tuple[int, int]:
    """`partition/offset`, also with the topic before it. Raises `InvalidSelection`."""
    match = _LOCATION.match(text)
    if match is None:
        raise InvalidSelection(f"{text[:60]!r} is not partition/offset, as `redrive quarantine list` shows it")
    return int(match[1]), int(match[2])
