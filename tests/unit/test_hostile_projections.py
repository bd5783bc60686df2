"""Invariant 9 for code from outside: whatever a plug-in's projection raises, yields or changes, its record or its event is a
dead letter, and what is around it is folded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from types import NoneType
from typing import Annotated, Any

import pytest

from processors import projections
from processors.fold import fold_record
from processors.outcome import Folded
from processors.projections.base import Event, project_each
from schemas import facts
from schemas.billing import Payment
from schemas.envelope import Record
from schemas.errors import PoisonRecord
from schemas.facts import Message
from schemas.lattice import Fact, Key, Latest, Max, Table, Version
from schemas.providers import PROVIDERS
from schemas.providers.base import Payload, digest_of
from tests.support.folding import letter_of
from tests.support.hostile import AT, RAISED, Loud, acme, giving, named, raising, record_of
from tests.support.records import payment, record
from tests.support.registries import put_back_afterwards

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))


class Rank(IntEnum):
    HIGH = 7


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with put_back_afterwards():
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Fact):
    source: Annotated[str, Key()]
    order_id: Annotated[str, Key()]
    amount: Annotated[int | None, Latest("amount")] = None
    hours: Annotated[Decimal | None, Max()] = None
    paid_at: Annotated[datetime | None, Max()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeclared(Fact):
    source: Annotated[str, Key()]


def folded_by(project: Any, **changes: Any) -> Folded:
    """A record of a plug-in's provider, by its projection."""
    PROVIDERS["acme"] = acme(identify=giving(named()))
    one = record_of()
    PROVIDERS["acme"] = acme(identify=giving(named()), **changes)
    projections.PROJECTIONS["acme"] = project
    if Order not in facts.TABLE_OF:
        facts.register(Table("orders", Order))
    return fold_record(one)


def order(**changes: Any) -> Any:
    return Order(**{"version": Version(AT, 0, "evt_1"), "source": "shop", "order_id": "ord_1", **changes})


def event(*found: Any, **changes: Any) -> Event:
    return Event(**{"event_id": "evt_1", "type": "acme.order.paid", "occurred_at": AT, "facts": found, **changes})


def test_a_sound_plug_in_is_folded() -> None:
    folded = folded_by(giving([event(order(amount=7, hours=Decimal("1.5"), paid_at=AT))]))
    assert not folded.letters
    assert [one.status for one in folded.events] == ["applied"]


@pytest.mark.parametrize("fault", RAISED)
@pytest.mark.parametrize("step", ["projection", "iterator", "parse", "fingerprint"])
def test_whatever_a_projection_raises_its_record_is_one_dead_letter(step: str, fault: str) -> None:
    def generator(*_: object) -> Iterator[Event]:
        yield event(order())
        raise RAISED[fault]()

    if step == "fingerprint":
        assert [one.status for one in folded_by(giving([event(order())]), fingerprint=raising(fault)).events] == [
            "applied"
        ]
        return
    changes = {"parse": raising(fault)} if step == "parse" else {}
    folded = folded_by(generator if step == "iterator" else raising(fault), **changes)
    (letter,) = folded.letters
    reasons = {"poison of a reason of its own": "invalid_payload"}
    assert (folded.events, letter.reason) == ((), reasons.get(fault, "projection_failed"))
    assert letter.event.event_id == "evt_1"
    assert letter.message


def test_values_of_a_plug_ins_own_types_lose_the_code_that_they_bring() -> None:
    class Paid(datetime):
        def utcoffset(self) -> Any:
            return timedelta(hours=2)

    later = Paid(2026, 11, 21, 2, tzinfo=timezone(timedelta(hours=2)))
    fact = order(
        order_id=Loud("ord_1"), paid_at=later, version=Version(later, Rank.HIGH, Loud("evt_1")), source=Loud("shop")
    )
    folded = folded_by(giving([event(fact, event_id=Loud("evt_1"), type=Loud("acme.paid"), occurred_at=later)]))
    assert not folded.letters
    assert {type(value) for value in folded.events[0]} <= {str, int, bytes, datetime, NoneType}
    ((_, row),) = folded.rows
    assert {type(value) for value in row} <= {str, int, bytes, datetime, Decimal, NoneType}
    assert folded.events[0].occurred_at == AT


@pytest.mark.parametrize("beyond", [datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST)], ids=str)
@pytest.mark.parametrize("place", ["occurred_at", "paid_at", "version"])
def test_a_time_that_utc_can_not_express_is_a_dead_letter(place: str, beyond: datetime) -> None:
    if place == "occurred_at":
        found = event(order(), event_id="evt_2", occurred_at=beyond)
    else:
        changed = Version(beyond, 0, "evt_1") if place == "version" else beyond
        found = event(order(**{place: changed}), event_id="evt_2")
    (letter,) = folded_by(giving([found])).letters
    assert letter.reason == "projection_failed"
    assert "out of range: in UTC, years 1 to 9999" in letter.message


def test_what_would_end_the_process_is_named_with_its_place() -> None:
    (letter,) = folded_by(raising("exit")).letters
    assert letter.message.startswith("SystemExit at support/hostile.py:")


@pytest.mark.parametrize(
    ("yielded", "said"),
    [
        (None, "a field is missing, or not of its type"),
        ([None], "yields a NoneType, not an Event"),
        ([{"event_id": "evt_1"}], "yields a dict, not an Event"),
        ([event(event_id=7)], "the id or the type of an event"),
        ([event(event_id="")], "the id or the type of an event"),
        ([event(event_id="evt\0")], "the id or the type of an event"),
        ([event(event_id="evt\ud800")], "the id or the type of an event"),
        ([event(type=None)], "the id or the type of an event"),
        ([event(type="x" * 600)], "the id or the type of an event"),
        ([event(occurred_at="yesterday")], "not a datetime with a time zone"),
        ([event(occurred_at=datetime(2026, 11, 21))], "not a datetime with a time zone"),  # noqa: DTZ001
        ([event(error=7)], "the error of an event is not text"),
    ],
    ids=repr,
)
def test_what_is_no_event_makes_the_record_a_dead_letter(yielded: Any, said: str) -> None:
    folded = folded_by(giving(yielded))
    (letter,) = folded.letters
    assert folded.events == ()
    assert letter.reason in ("projection_failed", "invalid_payload")
    assert said in letter.message


@pytest.mark.parametrize(
    ("fact", "reason", "said"),
    [
        (None, "projection_failed", "a fact is a NoneType: no table holds it"),
        (Undeclared(version=Version(AT, 0, "evt_1"), source="shop"), "projection_failed", "no table holds it"),
        (order(source="stripe"), "projection_failed", "orders.source is another source than the record's"),
        (
            Payment(version=Version(AT, 0, "x"), source="stripe", payment_intent_id="pi_1", status="succeeded"),
            "projection_failed",
            "payments.source is another source than the record's",
        ),
        (order(source=None), "projection_failed", "orders.source is another source"),
        (order(amount=2**64), "invalid_payload", "orders.amount: beyond 64 bits"),
        (order(amount=object), "invalid_payload", "orders."),
        (order(hours=Decimal("NaN")), "projection_failed", "orders.hours is not finite"),
        (order(hours=Decimal("sNaN")), "projection_failed", "orders.hours is not finite"),
        (order(paid_at=datetime(2026, 11, 21)), "projection_failed", "orders.paid_at is not finite, or has no"),  # noqa: DTZ001
        (order(version=None), "invalid_payload", "orders"),
        (order(version=(AT, -1, "evt_1"), amount=1), "invalid_payload", "orders"),
        (
            Message(version=Version(AT, 0, "x"), source="shop", message_id="m", status="odd"),
            "invalid_payload",
            "messages.",
        ),
    ],
)
def test_a_fact_that_can_not_be_written_leaves_the_other_events_alone(fact: Any, reason: str, said: str) -> None:
    folded = folded_by(giving([event(order()), event(fact, event_id="evt_2")]))
    assert [one.status for one in folded.events] == ["applied"]
    (letter,) = folded.letters
    assert (letter.event.event_id, letter.reason) == ("evt_2", reason)
    assert said in letter.message


def test_a_fact_of_a_table_that_writes_does_not_name_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "WRITES", (facts.PAYMENTS,))
    (letter,) = folded_by(lambda *_: [event(order())]).letters
    assert "a fact is of table orders, which WRITES does not name" in letter.message


def test_an_event_is_dead_with_a_known_reason_whatever_the_plug_in_calls_it() -> None:
    found = folded_by(giving([event(poison=PoisonRecord("acme\n", "no amount")), event(order(), event_id="evt_2")]))
    assert [(letter.reason, letter.message) for letter in found.letters] == [("invalid_payload", "no amount")]
    assert [one.event_id for one in found.events] == ["evt_2"]


def test_an_error_holds_what_postgres_takes() -> None:
    (indexed,) = folded_by(giving([event(error="a\0b\ud800")])).events
    assert indexed.error == "a\ufffdb\ufffd"


def test_a_batch_of_a_plug_in_is_projected_item_by_item() -> None:
    def project_one(_: Record, item: str) -> Event:
        if item == "evt_2":
            raise SystemExit
        return event(order(order_id=item), event_id=item)

    def project(found: Record, payload: Payload) -> Iterator[Event]:
        return project_each(found, ["evt_1", "evt_2", "evt_3"], project_one, lambda item: (item, "acme.item"))

    folded = folded_by(project)
    assert [one.event_id for one in folded.events] == ["evt_1", "evt_3"]
    assert [(one.event.event_id, one.reason) for one in folded.letters] == [("evt_2", "projection_failed")]


def test_what_a_projection_changes_of_its_payload_changes_nothing_else() -> None:
    def project(found: Record, payload: Payload) -> list[Event]:
        payload.clear()
        found.headers.clear()  # type: ignore[attr-defined]
        return [event(order())]

    (indexed,) = folded_by(project).events
    assert indexed.fingerprint == digest_of({"id": "evt_1", "type": "order.paid"})


@pytest.mark.parametrize("fault", RAISED)
def test_a_type_of_ours_that_a_plug_in_reads_harms_no_other_type(fault: str) -> None:
    projections.register("stripe.customer.created", raising(fault))
    body = b'{"id":"evt_2","created":1760000000,"type":"customer.created","data":{"object":{"id":"cus_1"}}}'
    assert letter_of(record("webhooks.stripe", "stripe", body)).event.event_id == "evt_2"
    assert not fold_record(record("webhooks.stripe", "stripe", payment(1))).letters
