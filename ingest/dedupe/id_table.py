"""Record ids in memory that the processes of one host share. A plain table: what an entry means is `dedupe`'s to say.

Entries lie in a ring in the order of their coming, so the oldest leaves first and the amount is fixed. An index of
buckets finds them: a bucket holds short tags, which one search in C goes through, and their places in the ring. The
index may point at what has been overwritten since; an entry counts only if it still has the key that was asked for.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ingest.dedupe.table_lock import TableLock, WindowHeld
from schemas.errors import Misconfigured

KEY_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 16
_ENTRY: Final = struct.Struct("<16s16sqqIHxx")
_ENTRY_BYTES: Final = _ENTRY.size
_PLACE: Final = struct.Struct("<I")
_COUNT: Final = struct.Struct("<Q")
_HASHES: Final = struct.Struct("<Q2s6x")
"""The parts of a key: its bucket, and its tag there."""

_TOKENS: Final = struct.Struct("<dd")

_SLOTS: Final = 64
_TAG_BYTES: Final = 2
"""One look-up in a thousand meets a tag that is another key's, and looks at that entry in vain."""

_PLACES: Final = _SLOTS * _TAG_BYTES
_CURSOR: Final = _PLACES + _SLOTS * _PLACE.size
_BUCKET_BYTES: Final = _CURSOR + 4
_MEAN_LOAD: Final = 40
"""Of 64 slots: one bucket in ten thousand then overflows when the ring is full, and forgets its oldest early."""

_NAME_BYTES: Final = 64
MAX_NAMES: Final = 1024
_COLLECTED: Final = _COUNT.size
_FLAG: Final = 2 * _COUNT.size
_NAMES: Final = 64
_METERS: Final = _NAMES + MAX_NAMES * _NAME_BYTES
_EPOCHS: Final = _METERS + MAX_NAMES * _TOKENS.size
MAX_MEMBERS: Final = 64
_MEMBERS: Final = _EPOCHS + MAX_NAMES
_MEMBER: Final = struct.Struct(f"<{MAX_MEMBERS}I")
_INDEX: Final = _MEMBERS + _MEMBER.size

_NUMBER_BITS: Final = 10
_EPOCH_COUNT: Final = 2 ** (16 - _NUMBER_BITS)
"""An entry has 16 bits for its name: which one, and in which of its epochs."""


class Entry(NamedTuple):
    """`value` and `owner` mean what `dedupe` makes of them; `name` is the number of a name, as it was then."""

    key: bytes
    fingerprint: bytes
    arrived_ms: int
    value: int
    owner: int
    name: int


EntryFields = Entry | tuple[bytes, bytes, int, int, int, int]
"""On the hot path a plain tuple will do."""


def _nothing() -> None:
    """The lock of a table that no other process has."""


class IdTable:
    """At most `max_ids` entries, in memory of this process, or (`is_shared`) of every process that has `descriptor`."""

    def __init__(self, max_ids: int, is_shared: bool = False, descriptor: int | None = None) -> None:
        self.max_ids = max_ids
        self._buckets = -(-max_ids // _MEAN_LOAD)
        self._ring = _INDEX + self._buckets * _BUCKET_BYTES
        size = self._ring + max_ids * _ENTRY_BYTES
        self.descriptor = descriptor
        if is_shared and descriptor is None:
            self.descriptor = os.memfd_create("redrive-ids")
            os.ftruncate(self.descriptor, size)
        elif descriptor is not None and os.fstat(descriptor).st_size != size:
            raise Misconfigured("DEDUPE_MAX_IDS has changed since the first process started; start all of them again")
        # The kernel gives the pages when they are touched: an idle table of five million ids takes next to nothing.
        self._memory = mmap.mmap(-1 if self.descriptor is None else self.descriptor, size)
        self.lock: Callable[[], None] = _nothing
        """For as long as a few look-ups take. Raises `WindowHeld`."""
        self.unlock: Callable[[], None] = _nothing
        if self.descriptor is not None:
            lock = TableLock(self.descriptor)
            self.lock, self.unlock = lock.take, lock.give_back
        self._names: dict[str, int] = {}
        self._by_number: list[str] = []

    def close(self) -> None:
        self._memory.close()
        if self.descriptor is not None:
            os.close(self.descriptor)

    def is_held(self) -> bool:
        """True if another process holds the lock, and does not continue."""
        try:
            self.lock()
        except WindowHeld:
            return True
        self.unlock()
        return False

    @property
    def count(self) -> int:
        """How many entries were ever put."""
        return int(_COUNT.unpack_from(self._memory)[0])

    @property
    def is_complete(self) -> bool:
        """True once a process has filled the table with everything known before."""
        return self._memory[_FLAG] != 0

    def complete(self) -> None:
        self._memory[_FLAG] = 1

    @property
    def collected(self) -> int:
        """Up to which number its keeper has seen it; here, so that the next keeper goes on from there."""
        return int(_COUNT.unpack_from(self._memory, _COLLECTED)[0])

    @collected.setter
    def collected(self, number: int) -> None:
        _COUNT.pack_into(self._memory, _COLLECTED, number)

    def join(self, number: int, pid: int) -> None:
        """The process of that number is this one from now on."""
        struct.pack_into("<I", self._memory, _MEMBERS + number % MAX_MEMBERS * 4, pid)

    def members(self) -> tuple[int, ...]:
        """For each number, the process that joined last, dead or alive."""
        return _MEMBER.unpack_from(self._memory, _MEMBERS)

    def find(self, key: bytes) -> list[tuple[int, Entry]]:
        """Places and entries of this key; the caller holds the lock."""
        memory = self._memory
        bucket, tag = _HASHES.unpack(key)
        base = _INDEX + bucket % self._buckets * _BUCKET_BYTES
        tags = memory[base : base + _PLACES]
        at = tags.find(tag)
        found: list[tuple[int, Entry]] = []
        while at >= 0:
            if not at % _TAG_BYTES:
                place = _PLACE.unpack_from(memory, base + _PLACES + at // _TAG_BYTES * _PLACE.size)[0]
                entry = _ENTRY.unpack_from(memory, self._ring + place * _ENTRY_BYTES)
                if entry[0] == key:
                    found.append((place, Entry(*entry)))
            at = tags.find(tag, at + 1)
        return found

    def put(self, entry: EntryFields) -> int:
        """Add an entry, in the place of the oldest where the ring is full; the caller holds the lock."""
        memory = self._memory
        count: int = _COUNT.unpack_from(memory)[0]
        place = count % self.max_ids
        _ENTRY.pack_into(memory, self._ring + place * _ENTRY_BYTES, *entry)
        bucket, tag = _HASHES.unpack(entry[0])
        base = _INDEX + bucket % self._buckets * _BUCKET_BYTES
        slot = memory[base + _CURSOR]
        at = base + slot * _TAG_BYTES
        memory[at : at + _TAG_BYTES] = tag
        _PLACE.pack_into(memory, base + _PLACES + slot * _PLACE.size, place)
        memory[base + _CURSOR] = (slot + 1) % _SLOTS
        # Last: whoever reads the ring in its order must not meet half an entry.
        _COUNT.pack_into(memory, 0, count + 1)
        return place

    def replace(self, place: int, entry: EntryFields) -> bool:
        """Change an entry; False where it has been overwritten by another key. The caller holds the lock."""
        at = self._ring + place * _ENTRY_BYTES
        if self._memory[at : at + KEY_BYTES] != entry[0]:
            return False
        _ENTRY.pack_into(self._memory, at, *entry)
        return True

    def since(self, number: int) -> Iterator[tuple[int, Entry]]:
        """Entries with their numbers, from the one that was put as that number (from 0), as far as they are there."""
        end = self.count
        for each in range(max(number, end - self.max_ids), end):
            yield each, Entry(*_ENTRY.unpack_from(self._memory, self._ring + each % self.max_ids * _ENTRY_BYTES))

    def number_of(self, name: str) -> int:
        """A small number for a name, the same in every process, and another one once the name is renewed. Raises
        `Misconfigured` when there are too many.
        """
        place = self._place_of(name)
        return place | self._memory[_EPOCHS + place] << _NUMBER_BITS

    def renew(self, name: str) -> None:
        """Give a name another number, for all processes at once, so that older entries differ from new ones.

        One number in 64 comes again.
        """
        at = _EPOCHS + self._place_of(name)
        self._memory[at] = (self._memory[at] + 1) % _EPOCH_COUNT

    def name_of(self, number: int) -> str:
        place = number % MAX_NAMES
        if place >= len(self._by_number):
            self._read_names()
        return self._by_number[place]

    def _place_of(self, name: str) -> int:
        place = self._names.get(name)
        if place is None:
            self.lock()
            try:
                self._read_names()
                place = self._names.get(name)
                if place is None:
                    place = self._add_name(name)
            finally:
                self.unlock()
        return place

    def _read_names(self) -> None:
        for number in range(len(self._names), MAX_NAMES):
            at = _NAMES + number * _NAME_BYTES
            name = self._memory[at : at + _NAME_BYTES].rstrip(b"\0").decode()
            if not name:
                return
            self._names[name] = number
            self._by_number.append(name)

    def _add_name(self, name: str) -> int:
        number = len(self._names)
        encoded = name.encode()
        if number == MAX_NAMES or len(encoded) > _NAME_BYTES:
            raise Misconfigured(f"{name}: more than {MAX_NAMES} sources, or a name of more than {_NAME_BYTES} bytes")
        at = _NAMES + number * _NAME_BYTES
        self._memory[at : at + len(encoded)] = encoded
        self._names[name] = number
        self._by_number.append(name)
        return number

    def take_token(self, number: int, capacity: float, per_second: float, now: float) -> float:
        """Take one token of a name's bucket, which all processes share. 0.0, or seconds until there is one.

        `now` is seconds of a clock that all processes share.
        """
        at = _METERS + number % MAX_NAMES * _TOKENS.size
        self.lock()
        try:
            used, filled_at = _TOKENS.unpack_from(self._memory, at)
            # The table stores the used tokens, so that a new bucket, all zeroes, is a full one.
            used = max(0.0, used - max(now - filled_at, 0.0) * per_second)
            has_token = used + 1 <= capacity
            _TOKENS.pack_into(self._memory, at, used + 1 if has_token else used, now)
        finally:
            self.unlock()
        return 0.0 if has_token else (used + 1 - capacity) / per_second
