"""The dedupe window: which contents are on the log, and where; and who is appending what. Must not append or answer.

The log is the truth, and the window a cache of its tail (`window_keeper` loads and saves it). So nothing is fsynced on
the hot path, and a crash can only cost reading, never an event. A claim makes a content one process's to append; it
ends with the outcome, or with the process.
"""

import hashlib
import os
import time
from typing import Final, NamedTuple

from ingest import metrics
from ingest.dedupe.id_table import FINGERPRINT_BYTES, KEY_BYTES, Entry, IdTable
from ingest.dedupe.table_lock import WindowHeld
from schemas.envelope import Location
from schemas.topics import source_of

CLAIM_MS: Final = 30_000
"""Longer than an append can be in doubt: what is claimed for longer, its owner has lost. By the clock of the host that
nobody can set; an entry that is claimed holds that time, and the arrival only once the claim has ended."""

CLAIMED: Final = -1
SPOOLED: Final = -2
VOID: Final = 0
"""Nothing came of the claim: the next copy takes it over. Also what half an entry says."""

NOWHERE: Final = -1
"""Place of a claim that is not in the table, because another process held the window."""

NAMELESS: Final = -1
"""Name of a topic that had no number yet at that time."""

_OFFSET_BITS: Final = 48


class Content(NamedTuple):
    """The identity of a content: source and record id, and the fingerprint of the parsed body."""

    topic: str
    key: bytes
    fingerprint: bytes


class Claim(NamedTuple):
    """The right to append a content. `since_ms`: when it was taken, by the host's steady clock. `is_conflict`: its id
    is known with another content. `name`: the topic's number at that time, so that a location on a topic that has been
    created again since does not count for the new one.
    """

    content: Content
    name: int
    place: int
    arrived_ms: int
    since_ms: int
    is_conflict: bool


class ClaimedElsewhere(NamedTuple):
    """Another process is appending it."""


class Spooled(NamedTuple):
    """It is durable here, and on its way to the log."""


Found = Claim | Location | ClaimedElsewhere | Spooled
CLAIMED_ELSEWHERE: Final = ClaimedElsewhere()
IN_SPOOL: Final = Spooled()


def content_of(topic: str, record_id: str, fingerprint: bytes) -> Content:
    key = hashlib.blake2b(f"{source_of(topic)}\0{record_id}".encode(), digest_size=KEY_BYTES).digest()
    return Content(topic, key, fingerprint[:FINGERPRINT_BYTES])


class DedupeWindow:
    """Contents of the last `window_ms` (by arrival), as many as the table holds; one per process, on a shared table."""

    def __init__(self, table: IdTable, window_ms: int) -> None:
        self._table = table
        self.window_ms = window_ms
        self._pid = os.getpid()

    def claim(self, content: Content, now_ms: int) -> Found:
        """The claim, if the content is new here; else where it is. While another process holds the window, every
        content is new: one more record of a copy harms nothing, but a delivery that nobody takes is lost.
        """
        topic, key, fingerprint = content
        table = self._table
        try:
            name = table.number_of(topic)
            table.lock()
        except WindowHeld:
            return self._without_window(content, now_ms)
        try:
            is_conflict = is_spooled = False
            place: int | None = None
            for at, entry in table.find(key):
                if entry.fingerprint != fingerprint:
                    is_conflict = is_conflict or (entry.value != VOID and not is_gone(entry, name))
                    continue
                if entry.value > VOID:
                    if now_ms - entry.arrived_ms <= self.window_ms and not is_gone(entry, name):
                        return _location(topic, entry.value)
                elif entry.value == SPOOLED and self._is_in_spool(entry):
                    # Where the log has it as well, that is the better answer.
                    is_spooled = True
                elif entry.value == CLAIMED and not self._is_lost(entry):
                    return CLAIMED_ELSEWHERE
                else:
                    place = at
            if is_spooled:
                return IN_SPOOL
            since_ms = _steady_ms()
            mine = (key, fingerprint, since_ms, CLAIMED, self._pid, name)
            if place is None or not table.replace(place, mine):
                place = table.put(mine)
            return Claim(content, name, place, now_ms, since_ms, is_conflict)
        finally:
            table.unlock()

    def _without_window(self, content: Content, now_ms: int) -> Claim:
        metrics.WINDOW_UNCLAIMED.inc()
        try:
            name = self._table.number_of(content.topic)
        except WindowHeld:
            name = NAMELESS
        return Claim(content, name, NOWHERE, now_ms, 0, False)

    def find(self, content: Content) -> Location | None:
        """Where it is on the log, as far as is known here. Raises `Unavailable`."""
        topic, key, fingerprint = content
        name = self._table.number_of(topic)
        self._table.lock()
        try:
            for _, entry in self._table.find(key):
                if entry.fingerprint == fingerprint and entry.value > VOID and not is_gone(entry, name):
                    return _location(topic, entry.value)
            return None
        finally:
            self._table.unlock()

    def era(self, topic: str) -> int:
        """A number that changes, for all processes at once, when what was on the topic is forgotten."""
        return self._table.number_of(topic)

    def forget(self, topic: str) -> None:
        """Forget a topic that was created again: its old records are nowhere, for all processes at once."""
        self._table.renew(topic)

    def _is_lost(self, entry: Entry) -> bool:
        """True if nobody will bring this claim to an end."""
        return is_overdue(entry) or not self._is_alive(entry.owner)

    def _is_in_spool(self, entry: Entry) -> bool:
        """True if a process holds it in the spool. An entry of a dead process counts until the successor has read the
        spool: the successor owns the deliveries that it found there, and the others are lost.
        """
        return self._is_alive(entry.owner) or entry.owner in self._table.members()

    @staticmethod
    def _is_alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # It lives, as somebody else.
            pass
        return True

    def has_read_spool(self, number: int) -> None:
        """The process of that number, this one, knows now what its predecessor left."""
        self._table.join(number, self._pid)

    def settle(self, claim: Claim, location: Location) -> None:
        """It is on the log. Raises `Unavailable`."""
        self._end(claim, _value(location))

    def spooled(self, claim: Claim) -> None:
        """It is in the spool. Raises `Unavailable`."""
        self._end(claim, SPOOLED)

    def landed(self, claim: Claim, location: Location) -> None:
        """It was in the spool, and is on the log after all. Raises `Unavailable`."""
        self._note(claim.content, _value(location), claim.arrived_ms, (self._pid, claim.name))

    def end_spooled(self, content: Content) -> None:
        """The spool of this process has it no longer: unless it is on the log, the next copy may come. Raises
        `Unavailable`.
        """
        table = self._table
        table.lock()
        try:
            for place, entry in table.find(content.key):
                if (entry.fingerprint, entry.value, entry.owner) == (content.fingerprint, SPOOLED, self._pid):
                    table.replace(place, entry._replace(value=VOID))
        finally:
            table.unlock()

    def release(self, claim: Claim) -> None:
        """Nothing came of it: the next copy may try, unless somebody has taken it over. Raises `Unavailable`."""
        if claim.place == NOWHERE:
            return
        table = self._table
        _, key, fingerprint = claim.content
        table.lock()
        try:
            for place, entry in table.find(key):
                if (place, entry.fingerprint, entry.value) == (claim.place, fingerprint, CLAIMED) and (
                    (entry.owner, entry.arrived_ms) == (self._pid, claim.since_ms)
                ):
                    table.replace(place, entry._replace(value=VOID))
        finally:
            table.unlock()

    def _end(self, claim: Claim, value: int) -> None:
        if claim.place == NOWHERE:
            self._note(claim.content, value, claim.arrived_ms, (self._pid, claim.name))
            return
        table = self._table
        _, key, fingerprint = claim.content
        entry = (key, fingerprint, claim.arrived_ms, value, self._pid, claim.name)
        table.lock()
        try:
            if not table.replace(claim.place, entry):
                table.put(entry)
        finally:
            table.unlock()

    def remember(
        self, content: Content, location: Location, arrived_ms: int, is_ours: bool = True, era: int | None = None
    ) -> None:
        """It is on the log, says the log, the spool or another host; now, or in that era. Raises `Unavailable`."""
        name = self._table.number_of(content.topic) if era is None else era
        self._note(content, _value(location), arrived_ms, (self._pid if is_ours else 0, name))

    def remember_spooled(self, content: Content, arrived_ms: int) -> bool:
        """A spool of an earlier process has it. Returns whether it still has to go to the log. Raises `Unavailable`."""
        return self._note(content, SPOOLED, arrived_ms, (self._pid, self._table.number_of(content.topic)))

    def _note(self, content: Content, value: int, arrived_ms: int, mark: tuple[int, int]) -> bool:
        """`mark`: owner and name of the entry. False where the log is known to have it already."""
        topic, key, fingerprint = content
        table = self._table
        owner, name = mark
        if name == NAMELESS or name != table.number_of(topic):
            # Noted too late: the topic may be, or is, another one by now.
            return True
        table.lock()
        try:
            for place, entry in table.find(key):
                if entry.fingerprint == fingerprint:
                    if entry.value > VOID and not is_gone(entry, name):
                        return False
                    if value == SPOOLED and entry.value == SPOOLED:
                        # The process that has it now owns it.
                        table.replace(place, entry._replace(owner=owner))
                        return True
                    # Its new entry comes last in the ring, where the keeper has not been yet.
                    table.replace(place, entry._replace(value=VOID))
            table.put((key, fingerprint, arrived_ms, value, owner, name))
            return True
        finally:
            table.unlock()


def _steady_ms() -> int:
    """One clock for all processes of a host, which goes on evenly while somebody sets the time of day."""
    return int(time.monotonic() * 1000)


def is_overdue(entry: Entry) -> bool:
    """True if this claim is older than its append can be in doubt."""
    return _steady_ms() - entry.arrived_ms > CLAIM_MS


def is_gone(entry: Entry, name: int) -> bool:
    """True if its location is on a topic that was created again since; `name` is the topic's number now."""
    return entry.value > VOID and entry.name != name


def is_location(partition: int, offset: int) -> bool:
    """True if an entry can hold it."""
    return 0 <= partition < 1 << 63 - _OFFSET_BITS and 0 <= offset < 1 << _OFFSET_BITS


def _value(location: Location) -> int:
    """From 1 on, so that no state and nothing half-written looks like a location."""
    return (location.partition << _OFFSET_BITS | location.offset) + 1


def _location(topic: str, value: int) -> Location:
    return Location(topic, value - 1 >> _OFFSET_BITS, value - 1 & (1 << _OFFSET_BITS) - 1)


def location_of(topic: str, entry: Entry) -> Location | None:
    """Where an entry's record is on the log; None while it is not."""
    return _location(topic, entry.value) if entry.value > VOID else None
