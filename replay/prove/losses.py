"""How a loss of the log ends: its events are seen on the log again, or an operator does without them.

A lost range is *recovered* if the index knows an event of every offset, and all of these events are on the log below
the cut, at whatever location. Their content is compared with the rows, as usual. Offsets that
were never folded, whatever another topic of that name has there, and events that left the index can't be recovered:
their loss ends when it is *accepted*, with a reason, on record.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, LiteralString

from replay import audit
from replay.audit import Author
from replay.ports import Connection
from replay.prove.certificate import Loss, LossState
from replay.prove.shadow import Sought
from replay.selection.selection import Range
from replay.tables.generations import name_ranges

ACCEPT: Final = "loss.accept"
"""The action in the audit."""

_LOST_RANGES: Final[LiteralString] = """
    SELECT topic, partition, first_offset, end_offset FROM redrive.lost_ranges WHERE generation = $1
"""
# In whichever generation: one that went live later may not know.
_UNFOLDED_RANGES: Final[LiteralString] = """
    SELECT l.topic, l.partition, l.first_offset, l.end_offset FROM redrive.lost_ranges AS l
    WHERE l.generation = $1 AND EXISTS (
        SELECT FROM redrive.lost_ranges AS o
        WHERE (o.topic, o.partition) = (l.topic, l.partition) AND o.folded_to < o.end_offset
          AND o.folded_to < l.end_offset AND l.first_offset < o.end_offset)
"""
_LIST_ENDED_LOSSES: Final[LiteralString] = """
    SELECT topic, partition, first_offset, end_offset, ended_as, operator, reason FROM redrive.ended_losses
"""
_INSERT_ENDED_LOSS: Final[LiteralString] = """
    INSERT INTO redrive.ended_losses (topic, partition, first_offset, end_offset, ended_as, operator, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (topic, partition, first_offset, end_offset) DO UPDATE
    SET ended_as = EXCLUDED.ended_as, operator = EXCLUDED.operator, reason = EXCLUDED.reason, ended_at = now()
"""
_DELETE_ENDED_LOSS: Final[LiteralString] = """
    DELETE FROM redrive.ended_losses WHERE (topic, partition, first_offset, end_offset) = ($1, $2, $3, $4)
"""


async def lost_ranges(connection: Connection, generation: int) -> dict[Range, str]:
    """The ranges that the live workers, or the process that folded the generation, found lost."""
    parts = [Range(*row) for row in await connection.fetch(_LOST_RANGES, generation)]
    return {part: f"{_name(part)} were lost" for part in parts}


async def unfolded_ranges(connection: Connection, generation: int) -> frozenset[Range]:
    """Those of the lost ranges of which a part was never folded."""
    return frozenset(Range(*row) for row in await connection.fetch(_UNFOLDED_RANGES, generation))


async def ended_losses(connection: Connection) -> dict[Range, Loss]:
    return {Range(*row[:4]): _loss(Range(*row[:4]), *row[4:]) for row in await connection.fetch(_LIST_ENDED_LOSSES)}


def judge(
    lost: Mapping[Range, str],
    unfolded: Collection[Range],
    ended: Mapping[Range, Loss],
    seen: Mapping[Range, Sought],
    accepting: Author | None,
) -> tuple[list[Loss], list[str]]:
    """(every loss and how it ended, why the open ones can't be known). Pure."""
    losses, reasons = [], []
    for part, text in sorted(lost.items(), key=lambda one: (one[0].topic, one[0].partition, one[0].start)):
        was, found = ended.get(part), seen.get(part, Sought())
        # The index may have been pruned since it was seen; never is an event passed over that it knows.
        is_known = found.offsets == len(part) or (was is not None and was.state == "recovered")
        if is_known and not found.missing and part not in unfolded:
            losses.append(_loss(part, "recovered"))
        elif was is not None and was.state == "accepted":
            losses.append(was)
        elif accepting is not None:
            losses.append(_loss(part, "accepted", *accepting))
        else:
            losses.append(_loss(part, "open"))
            reasons.append(f"{text}; {_unknown(part, found, part in unfolded)}")
    return losses, reasons


def _unknown(part: Range, seen: Sought, is_unfolded: bool) -> str:
    if is_unfolded or seen.offsets < len(part):
        return "nobody knows all that was there"
    return f"{seen.missing} of the events that were there are not on the log"


async def record_ends(connection: Connection, losses: Sequence[Loss], accepting: Author | None) -> None:
    """Write down the ends that a proof found. An acceptance is in the audit before it counts."""
    if not losses:
        return
    async with connection.transaction():
        ended = await ended_losses(connection)
        changed = [loss for loss in losses if loss.state != "open" and loss != ended.get(part_of(loss))]
        accepted = [loss for loss in changed if loss.state == "accepted"]
        if accepted and accepting is not None:
            named = name_ranges([_key(loss) for loss in accepted])
            await audit.note(connection, accepting.operator, ACCEPT, accepting.reason, lost=named)
        for loss in changed:
            await connection.execute(_INSERT_ENDED_LOSS, *_key(loss), loss.state, loss.operator, loss.reason)
        for loss in losses:
            if loss.state == "open" and part_of(loss) in ended:
                await connection.execute(_DELETE_ENDED_LOSS, *_key(loss))


def _loss(part: Range, state: LossState, operator: str | None = None, reason: str | None = None) -> Loss:
    return Loss(
        topic=part.topic,
        partition=part.partition,
        first_offset=part.start,
        end_offset=part.end,
        state=state,
        operator=operator,
        reason=reason,
    )


def _key(loss: Loss) -> tuple[str, int, int, int]:
    return loss.topic, loss.partition, loss.first_offset, loss.end_offset


def part_of(loss: Loss) -> Range:
    return Range(*_key(loss))


def _name(part: Range) -> str:
    return f"{part.topic}/{part.partition}: offsets {part.start} to {part.end - 1}"
