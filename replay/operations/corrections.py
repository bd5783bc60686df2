"""An operator's correction: shown before it is made, on record before its effect, appended as an event of the log.

Must not write a table itself: the fold of the event does.
"""

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, LiteralString, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from processors.store import Written
from replay import audit
from replay.faults import first_fault
from replay.locks import Lock, advisory_lock
from replay.log.reader import LogReader
from replay.operations.requeue import RolledBack, hold_live
from replay.operations.sources import UnknownSource
from replay.ports import AppendCorrection, Connection
from replay.selection.selection import require_text
from replay.tables.folding import LiveFolding
from schemas.corrections import Correction, CorrectionChange, CorrectionId, CreditsAdjusted, SubscriptionCorrected
from schemas.envelope import KafkaHeaders, Location, Record
from schemas.errors import AppendInDoubt, InvalidSelection, InvalidTransition, PoisonRecord
from schemas.topics import OPERATOR

ACTIONS: Final = {
    "credits.adjusted": "credits.adjust",
    "account.frozen": "account.freeze",
    "account.unfrozen": "account.unfreeze",
    "subscription.corrected": "subscription.correct",
}
"""Type of a change -> what the audit calls it."""

_IS_KNOWN_CUSTOMER: Final[LiteralString] = (
    "SELECT EXISTS (SELECT FROM public.accounts WHERE source = $1 AND customer_id = $2)"
)
_CREATE_IT: Final = 'pass --new ("new": true over HTTP) to create it'
_CORRECTED_ROW: Final[dict[str, LiteralString]] = {
    "credits": "SELECT * FROM public.credits WHERE source = $1 AND customer_id = $2",
    "accounts": "SELECT * FROM public.accounts WHERE source = $1 AND customer_id = $2",
    "subscriptions": "SELECT * FROM public.subscriptions WHERE source = $1 AND subscription_id = $2",
}


class CorrectionOrder(BaseModel):
    """An operator's order. `id`: a repeated id is the same correction; `new`: the customer may be unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    source: str
    change: CorrectionChange
    reason: str
    id: CorrectionId | None = None
    new: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """The dependencies of a correction. `sources` are the names of the configured ones."""

    sources: Collection[str]
    open_log: Callable[[], LogReader]
    append: AppendCorrection


class Corrected(NamedTuple):
    """`status` is `accepted`, `duplicate` (said before, nothing was appended) or `planned` (a dry run).

    `before` and `after` are the row of the read model; of a duplicate, both are as it is.
    """

    status: str
    id: str | None
    event_id: str | None
    location: str | None
    table: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(slots=True)
class _Draft:
    """A correction as a record that is not on the log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: KafkaHeaders


def parse_correction(raw: bytes) -> CorrectionOrder:
    """Raises `InvalidSelection`, which names the first fault by its place."""
    try:
        return CorrectionOrder.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidSelection(first_fault(error)) from error


async def correct(connection: Connection, desk: Desk, order: CorrectionOrder, operator: str) -> Corrected:
    """One at a time. Raises `UnknownSource`, `InvalidSelection` (an unknown customer, no reason), `InvalidTransition`
    (the id is another correction's) and `Unavailable`, after which the same id can be used again: `AppendInDoubt` names
    it.
    """
    if order.source not in desk.sources:
        raise UnknownSource(f"no source is called {order.source[:40]!r}; there are: {', '.join(desk.sources)}")
    correction = _correction(order, operator)
    async with advisory_lock(connection, Lock.CORRECTIONS):
        earlier = await _earlier(desk, correction) if order.id is not None else None
        if earlier is not None:
            view, row = await _row(connection, correction)
            return Corrected("duplicate", correction.id, correction.event_id, str(earlier), view, row, row)
        view, before, after = await _effect(connection, desk, correction)
        await _require_known(connection, order, before)
        if order.dry_run:
            return Corrected("planned", order.id, None, None, view, before, after)
        location = await _append(connection, desk, correction)
        return Corrected("accepted", correction.id, correction.event_id, str(location), view, before, after)


def _correction(order: CorrectionOrder, operator: str) -> Correction:
    for text in (operator, order.reason):
        require_text(text)
    now = datetime.now(UTC)
    name = order.id or uuid.uuid4().hex
    try:
        return Correction(
            id=name, at=now, source=order.source, operator=operator, reason=order.reason.strip(), change=order.change
        )
    except ValidationError as error:
        raise InvalidSelection(first_fault(error)) from error


async def _earlier(desk: Desk, correction: Correction) -> Location | None:
    """The record with this id, folded or not. Raises `InvalidTransition` if it is another correction."""
    async with desk.open_log() as reader:
        ranges = await reader.tails(OPERATOR, 2**62)
        async for _, records in reader.read(ranges):
            for one in records:
                if dict(one.headers).get("ce_id") == correction.event_id.encode():
                    if _fingerprint(one) != correction.fingerprint:
                        raise InvalidTransition(f"the id {correction.id} is that of another correction: use a new id")
                    return Location(one.topic, one.partition, one.offset)
    return None


def _fingerprint(raw: Any) -> bytes | None:
    """None for a record that is not a correction."""
    try:
        record = Record.decode(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.headers, raw.value)
        return Correction.decode(record).fingerprint
    except (PoisonRecord, ValidationError):
        return None


async def _effect(
    connection: Connection, desk: Desk, correction: Correction
) -> tuple[str, dict[str, Any] | None, dict[str, Any] | None]:
    """(read model, its row now, its row with the correction): folded as the workers will, and taken back."""
    body, headers = correction.body(), correction.headers()
    draft = _Draft(OPERATOR, 0, -1, correction.timestamp_ms, correction.event_id.encode(), body, headers)
    outcomes: list[Written] = []

    async def last(outcome: Written) -> None:
        outcomes.append(outcome)

    try:
        async with connection.transaction():
            folding = await LiveFolding.open(connection)

            async def first() -> None:
                await hold_live(connection, folding.generation)

            view, before = await _row(connection, correction)
            await folding.commit(connection, [folding.fold(draft)], first, last)
            _, after = await _row(connection, correction)
            raise RolledBack
    except RolledBack:
        pass
    for letter in outcomes[0].letters:
        raise InvalidSelection(f"the correction can't be folded: {letter.message}")
    return view, before, after


async def _row(connection: Connection, correction: Correction) -> tuple[str, dict[str, Any] | None]:
    """(read model, the row of it that the correction is about)."""
    change = correction.change
    if isinstance(change, SubscriptionCorrected):
        view, key = "subscriptions", change.subscription
    else:
        view, key = "credits" if isinstance(change, CreditsAdjusted) else "accounts", change.customer
    row = await connection.fetchrow(_CORRECTED_ROW[view], correction.source, key)
    return view, None if row is None else dict(row)


async def _require_known(connection: Connection, order: CorrectionOrder, before: dict[str, Any] | None) -> None:
    """A typo must not create a customer. Raises `InvalidSelection`."""
    change = order.change
    if isinstance(change, SubscriptionCorrected):
        if before is not None and change.customer not in (None, before["customer_id"]):
            raise InvalidSelection(
                f"{change.subscription} belongs to {before['customer_id']}: a correction can't move it"
            )
        if before is None and change.customer is None:
            raise InvalidSelection(
                f"unknown subscription {change.subscription} of {order.source}: {_CREATE_IT}, with its customer"
            )
        if before is None and not order.new:
            raise InvalidSelection(f"unknown subscription {change.subscription} of {order.source}: {_CREATE_IT}")
        return
    if not order.new and not await connection.fetchval(_IS_KNOWN_CUSTOMER, order.source, change.customer):
        raise InvalidSelection(f"unknown customer {change.customer} of {order.source}: {_CREATE_IT}")


async def _append(connection: Connection, desk: Desk, correction: Correction) -> Location:
    """On record before the log has it (invariant 10)."""
    action = ACTIONS[correction.change.type]
    change = correction.change.model_dump(mode="json", exclude={"type"}, exclude_none=True)
    details = {"source": correction.source, "correction": correction.id, **change}
    await audit.note(connection, correction.operator, action, correction.reason, **details)
    try:
        return await desk.append(correction)
    except BaseException as error:
        failed = {**details, "outcome": audit.outcome_of(error)}
        await audit.note(connection, correction.operator, action, correction.reason, **failed)
        if isinstance(error, AppendInDoubt):
            raise AppendInDoubt(
                f'{error}. Repeat the correction with its id, {correction.id} (--id, or "id" over HTTP): it counts once'
            ) from error
        raise
