"""Where events lie on the log, as its index says. Must not read the log.

The index also knows what the log has dropped: a replay says so, instead of passing over it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString

from replay.ports import Connection
from replay.selection.patterns import moment
from replay.selection.selection import Range, Selection
from schemas.errors import InvalidSelection
from schemas.event_ids import readings
from schemas.masking import mask_id
from schemas.topics import TopicPartition

MAX_LOCATED: Final = 500_000
"""Offsets of one selection: they are kept in the ledger, for whoever takes the replay over."""

_EVENTS_BY_NAME: Final[LiteralString] = """
    SELECT DISTINCT asked.text, i.source, asked.reading, i.event_id
    FROM unnest($2::text[], $3::integer[], $4::text[]) AS asked (text, reading, id)
    JOIN redrive.event_index AS i ON i.event_id = asked.id
    WHERE i.source = ANY($1::text[]) ORDER BY asked.text, i.source, asked.reading
"""
_RECORDS_OF_EVENTS: Final[LiteralString] = """
    SELECT DISTINCT topic, partition, record_offset FROM redrive.event_index
    JOIN unnest($1::text[], $2::text[]) AS named (source, event_id) USING (source, event_id)
    ORDER BY topic, partition, record_offset LIMIT $3
"""
_DEAD_RECORDS_OF_SOURCES: Final[LiteralString] = """
    SELECT DISTINCT topic, partition, record_offset FROM redrive.event_index
    WHERE source = ANY($1::text[]) AND status = 'dead'
    ORDER BY topic, partition, record_offset LIMIT $2
"""
_TYPES_BELOW: Final[LiteralString] = """
    SELECT DISTINCT i.type FROM redrive.event_index AS i
    JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS s (topic, partition, start) USING (topic, partition)
    WHERE i.record_offset < s.start
"""
_INDEXED_BELOW: Final[LiteralString] = """
    SELECT topic, partition, min(i.record_offset) AS first, max(i.record_offset) AS last,
           count(DISTINCT i.record_offset) AS records
    FROM redrive.event_index AS i
    JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS s (topic, partition, start) USING (topic, partition)
    WHERE i.record_offset < s.start AND i.type = ANY($4::text[])
      AND ($5::timestamptz IS NULL OR CASE WHEN $7 THEN coalesce(occurred_at, received_at) ELSE received_at END >= $5)
      AND ($6::timestamptz IS NULL OR CASE WHEN $7 THEN coalesce(occurred_at, received_at) ELSE received_at END < $6)
    GROUP BY topic, partition ORDER BY topic, partition
"""
# When they arrived nobody knows; before they were noticed.
_LOST_RANGES_OF_TOPICS: Final[LiteralString] = """
    SELECT l.topic, l.partition, l.first_offset, least(l.end_offset, s.start) AS end_offset
    FROM redrive.lost_ranges AS l
    LEFT JOIN redrive.ended_losses AS e USING (topic, partition, first_offset, end_offset)
    JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS s (topic, partition, start) USING (topic, partition)
    WHERE l.generation = (SELECT live FROM redrive.generation) AND l.first_offset < s.start
      AND e.ended_as IS DISTINCT FROM 'recovered'
      AND ($4::timestamptz IS NULL OR l.noticed_at >= $4)
    ORDER BY l.topic, l.partition, l.first_offset
"""


@dataclass(frozen=True, slots=True)
class Gone:
    """Records that the selection means and the log does not hold: `part` is where they were, or would be.

    `dropped` were on the log; `lost` were dropped before they were folded; `absent` offsets are past the log's end.
    """

    part: Range
    records: int
    why: Literal["dropped", "lost", "absent"]

    def as_document(self) -> dict[str, Any]:
        part = self.part
        return {
            "topic": part.topic,
            "partition": part.partition,
            "first": part.start,
            "last": part.end - 1,
            "records": self.records,
            "why": self.why,
        }


async def named_events(
    connection: Connection, sources: Sequence[str], texts: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """Text -> (source, event id) of what it means in each source; those of which the index holds nothing are left out.

    Raises `InvalidSelection` for a text that means two events of one source: neither is taken for the other.
    """
    asked = [
        (text, number, spelling)
        for text in dict.fromkeys(texts)
        for number, reading in enumerate(readings(text))
        for spelling in reading
    ]
    columns = [list(column) for column in zip(*asked, strict=True)] or [[], [], []]
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for text, source, reading, name in await connection.fetch(_EVENTS_BY_NAME, list(sources), *columns):
        first, known = found.setdefault((text, source), (reading, name))
        if first == reading and known != name:
            raise InvalidSelection(
                f"{mask_id(text)!r} may mean two events of {source}: as the index spells ids, and as their provider"
                " does; name the offset, or a window"
            )
    named: dict[str, list[tuple[str, str]]] = {}
    for (text, source), (_, name) in found.items():
        named.setdefault(text, []).append((source, name))
    return named


async def locate_events(connection: Connection, events: Sequence[tuple[str, str]]) -> list[Range]:
    """Every offset that holds one of these (source, event id)."""
    sources, ids = [source for source, _ in events], [one for _, one in events]
    return [_at(row) for row in await connection.fetch(_RECORDS_OF_EVENTS, sources, ids, MAX_LOCATED + 1)]


async def locate_dead(connection: Connection, selection: Selection) -> list[Range]:
    """Every offset that the index holds as dead."""
    return [
        _at(row) for row in await connection.fetch(_DEAD_RECORDS_OF_SOURCES, list(selection.sources), MAX_LOCATED + 1)
    ]


def _at(row: Any) -> Range:
    return Range(row["topic"], row["partition"], row["record_offset"], row["record_offset"] + 1)


async def gone_from(connection: Connection, selection: Selection, starts: Mapping[TopicPartition, int]) -> list[Gone]:
    """The records of a window below the log's starts that the index knows, and those lost there before their fold."""
    below = [(topic, partition, start) for (topic, partition), start in sorted(starts.items()) if start > 0]
    if not below:
        return []
    bounds: Sequence[list[Any]] = [list(column) for column in zip(*below, strict=True)]
    types = [row["type"] for row in await connection.fetch(_TYPES_BELOW, *bounds)]
    matching = [kind for kind in types if selection.holds_type((kind,))]
    since, until = moment(selection.from_ms), moment(selection.to_ms)
    dropped = await connection.fetch(_INDEXED_BELOW, *bounds, matching, since, until, selection.by == "event")
    lost = await connection.fetch(_LOST_RANGES_OF_TOPICS, *bounds, since)
    return [
        *(Gone(Range(r["topic"], r["partition"], r["first"], r["last"] + 1), r["records"], "dropped") for r in dropped),
        *(
            Gone(part, len(part), "lost")
            for part in (Range(r["topic"], r["partition"], r["first_offset"], r["end_offset"]) for r in lost)
        ),
    ]
