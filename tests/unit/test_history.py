"""Whose word stands in a column is who the merge took it from."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

from replay.prove.history import History, RecordName
from replay.prove.why import BENEATH
from replay.tables.read_models import tables_behind
from schemas.billing import Subscription
from schemas.facts import MESSAGES, SUBSCRIPTIONS, Message
from schemas.lattice import Version

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY: dict[str, Any] = {"source": "stripe", "subscription_id": "sub_1"}


def named(number: int) -> RecordName:
    return RecordName("webhooks.stripe", 0, number, 1000 + number, f"rec_{number}", "stripe.x")


def subscription(minute: int, event: str, **columns: Any) -> Any:
    version = Version(AT + timedelta(minutes=minute), 1, event)
    return SUBSCRIPTIONS.row(Subscription(version=version, **KEY, **columns))


def test_the_latest_of_a_group_wins_the_whole_group_and_a_repeat_wins_nothing() -> None:
    history = History(SUBSCRIPTIONS, ("stripe", "sub_1"))
    history.add(named(0), subscription(5, "evt_b", status="active", price_id="price_1", customer_id="cus_1"))
    history.add(named(1), subscription(9, "evt_c", status="past_due", customer_id="cus_1"))
    history.add(named(2), subscription(1, "evt_a", status="trialing", client_reference_id="ref"))
    history.add(named(3), subscription(9, "evt_c", status="past_due", customer_id="cus_1"))
    won = {column: record.offset for column, record in history.won.items()}
    # The group moves together: the price that the later event does not name is gone.
    assert won == {"status": 1, "customer_id": 1, "client_reference_id": 2}
    assert [one.event_id for one in history.contributions] == ["evt_b", "evt_c", "evt_a", "evt_c"]
    assert history.contributions[2].values == {"status": "trialing", "client_reference_id": "ref"}


def test_of_two_that_tie_each_has_the_columns_that_it_alone_knows() -> None:
    rows = [subscription(5, "evt", status="active"), subscription(5, "evt", status="active", price_id="price_1")]
    for first, second in ((0, 1), (1, 0)):
        history = History(SUBSCRIPTIONS, ("stripe", "sub_1"))
        history.add(named(first), rows[first])
        history.add(named(second), rows[second])
        won = {column: record.offset for column, record in history.won.items()}
        assert won == {"status": first, "price_id": 1}


def test_the_winners_are_those_of_the_values_that_stand_whatever_the_order() -> None:
    def message(minute: int, event: str, **columns: Any) -> Any:
        version = Version(AT + timedelta(minutes=minute), 0, event)
        return MESSAGES.row(Message(version=version, source="s", message_id="m", **columns))

    rows = [
        message(1, "a", status="sent", sent_at=AT + timedelta(minutes=1), channel="sms"),
        message(3, "b", status="delivered", sent_at=AT, delivered_at=AT + timedelta(minutes=3)),
        message(2, "c", status="failed", error_code="131", channel="whatsapp"),
    ]
    for order in permutations(range(3)):
        history = History(MESSAGES, ("s", "m"))
        for number in order:
            history.add(named(number), rows[number])
        won = {column: record.offset for column, record in history.won.items()}
        assert won["status"] == won["sent_at"] == won["delivered_at"] == 1
        assert won["channel"] == 2
        assert "error_code" not in won, "it belonged to a status that did not win"


def test_beneath_a_view_lie_the_tables_that_it_is_computed_of() -> None:
    behind = tables_behind()
    assert {view: {table for table, _ in facts} for view, (_, facts) in BENEATH.items()} == {
        view: set(tables) for view, tables in behind.items() if tables != {view}
    }
