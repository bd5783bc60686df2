"""The log folded as live workers fold it, with their positions, and without Faust."""

from collections.abc import Sequence
from typing import Any

from processors.fold import fold_record
from processors.outcome import Dead, RawRecord
from processors.store import Span, Store
from replay.log.reader import LogReader
from replay.selection.selection import Range
from replay.tables.folding import NoDeadLetters
from tests.conftest import Stack

_POSITIONS = "SELECT topic, partition, next_offset FROM redrive.positions WHERE generation = $1"


class NoLetters:
    """Nothing is dead."""

    async def put(self, letters: Sequence[Dead]) -> None:
        assert not letters, letters


def letter_of(raw: RawRecord) -> Dead:
    """The one dead letter of a record that has nothing else."""
    folded = fold_record(raw)
    assert not folded.events, folded
    (letter,) = folded.letters
    return letter


async def fold_live(stack: Stack, connection: Any, *topics: str, generation: int = 1) -> None:
    """Everything past the positions."""
    store = Store(generation, NoDeadLetters())
    async with LogReader(stack.cluster) as reader:
        stored = {(row[0], row[1]): row[2] for row in await connection.fetch(_POSITIONS, generation)}
        starts, ends = await reader.bounds(topics)
        past = [Range(*tp, max(start, stored.get(tp, 0)), ends[tp]) for tp, start in starts.items()]
        ranges = [part for part in past if len(part)]
        if not ranges:
            return
        async for part, records in reader.read(ranges):
            span = Span(part.topic, part.partition, part.start, part.end)
            await store.commit_batch(connection, span, [fold_record(record) for record in records])
