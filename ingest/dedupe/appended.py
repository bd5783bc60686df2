"""The appends of this host's processes, read from the table that they share. Must not save or send them."""

from collections.abc import Iterator

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.store import ENTRY
from ingest.dedupe.window import CLAIMED, VOID, is_gone, is_overdue, location_of
from schemas.envelope import Location


def appended(table: IdTable) -> Iterator[tuple[Location, bytes] | None]:
    """Each record since the last time, as it is saved; None for an entry that is not of one. The table remembers how
    far this came.
    """
    for number, entry in table.since(table.collected):
        if entry.value == CLAIMED and not is_overdue(entry):
            # Nobody knows yet what becomes of it, and the order of the ring is ours.
            return
        table.collected = number + 1
        topic = table.name_of(entry.name)
        location = location_of(topic, entry)
        if location is None or entry.value <= VOID or not entry.owner or is_gone(entry, table.number_of(topic)):
            yield None
        else:
            place = (location.partition, location.offset)
            yield location, ENTRY.pack(entry.key, entry.fingerprint, *place, entry.arrived_ms)
