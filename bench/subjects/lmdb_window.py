"""`python -m bench.subjects.lmdb_window COUNT ROUNDS`: the dedupe window beside the least it would be on LMDB, both
full, in alternating rounds. Prints µs of CPU for each id. `pip install lmdb` first: redrive does not need it.
"""

import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Final, Protocol

import lmdb

from bench.subjects.window_fill import PARTITIONS, TOPIC, WINDOW_MS
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.window import CLAIMED, Claim, Content, DedupeWindow, Found, content_of
from schemas.envelope import Location

LOT: Final = 10_000
_ROW: Final = struct.Struct("<qqIHxxQ")
_NUMBER: Final = struct.Struct("=Q")


class _Window(Protocol):
    def claim(self, content: Content, now_ms: int) -> Found: ...
    def settle(self, claim: Claim, location: Location) -> None: ...


class LmdbWindow:
    """A claim is one put. A settling is two, so that the oldest are known, which leave a thousand at a time. Left out:
    claims of others, conflicts of ids, topics that are made anew; whatever they cost comes on top.
    """

    def __init__(self, max_ids: int, folder: str) -> None:
        self._max_ids = max_ids
        # Without an fsync, and without a copy of each page: its fastest. A crash of the host may corrupt the file.
        self._env = lmdb.open(folder, map_size=1 << 36, max_dbs=2, sync=False, writemap=True, map_async=True)
        self._ids = self._env.open_db(b"ids")
        self._order = self._env.open_db(b"order", integerkey=True)

    def claim(self, content: Content, now_ms: int) -> Found:
        key = content.key + content.fingerprint
        with self._env.begin(write=True) as transaction:
            row = transaction.get(key, db=self._ids)
            if row is not None and (value := _ROW.unpack(row)[1]) > 0:
                return Location(content.topic, value >> 48, value & (1 << 48) - 1)
            transaction.put(key, _ROW.pack(now_ms, CLAIMED, 1, 0, 0), db=self._ids)
            return Claim(content, 0, 0, now_ms, now_ms, False)

    def settle(self, claim: Claim, location: Location) -> None:
        key = claim.content.key + claim.content.fingerprint
        with self._env.begin(write=True) as transaction:
            cursor = transaction.cursor(self._order)
            number = _NUMBER.unpack(cursor.key())[0] + 1 if cursor.last() else 0
            value = location.partition << 48 | location.offset
            transaction.put(key, _ROW.pack(claim.arrived_ms, value, 1, 0, number), db=self._ids)
            cursor.put(_NUMBER.pack(number), key, append=True)
            if number % 1000 == 0 and cursor.first():
                while _NUMBER.unpack(cursor.key())[0] <= number - self._max_ids:
                    transaction.delete(cursor.value(), db=self._ids)
                    cursor.delete()


def _contents(numbers: Sequence[int]) -> list[Content]:
    return [content_of(TOPIC, f"evt_{number:024d}", number.to_bytes(32, "big")) for number in numbers]


def _add(window: _Window, lot: Sequence[Content], now_ms: int, numbers: "count[int]") -> float:
    before = time.process_time()
    for content in lot:
        claim = window.claim(content, now_ms)
        if not isinstance(claim, Claim):
            raise TypeError(f"{content} is known")
        number = next(numbers)
        window.settle(claim, Location(TOPIC, number % PARTITIONS, number // PARTITIONS + 1))
    return (time.process_time() - before) / len(lot) * 1e6


def _find(window: _Window, lot: Sequence[Content], now_ms: int) -> float:
    before = time.process_time()
    for content in lot:
        window.claim(content, now_ms)
    return (time.process_time() - before) / len(lot) * 1e6


def main() -> None:
    size, rounds = int(sys.argv[1]), int(sys.argv[2])
    now_ms = time.time_ns() // 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        table = DedupeWindow(IdTable(size, is_shared=True), WINDOW_MS)
        windows: dict[str, _Window] = {"table": table, "lmdb": LmdbWindow(size, folder)}
        numbers = {name: count() for name in windows}
        found: dict[tuple[str, str], list[float]] = {}
        for start in range(0, size + rounds * LOT, LOT):
            for name, window in windows.items():
                used = _add(window, _contents(range(start, start + LOT)), now_ms, numbers[name])
                if start >= size:
                    found.setdefault(("claim and settle", name), []).append(used)
                    known = _contents(Random(start).sample(range(start + 2 * LOT - size, start), LOT))
                    found.setdefault(("find", name), []).append(_find(window, known, now_ms))
    for (step, name), each in found.items():
        ratio = statistics.median(b / a for a, b in zip(found[step, "table"], each, strict=True))
        print(f"{step}, {name}: {statistics.median(each):.1f} ({min(each):.1f}-{max(each):.1f}), × {ratio:.2f}")


if __name__ == "__main__":
    main()
