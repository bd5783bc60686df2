"""Design §6: calls over WhatsApp are rows of `calls`, and what a user allows is a row of `contact_preferences`."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.story.base import at
from tests.support.whatsapp import NOW, OURS, THEIRS, Row, delivery, folded, rows, status


def call(event: str, **fields: Any) -> Row:
    said = {"id": "wacid.1", "from": THEIRS, "to": OURS, "direction": "USER_INITIATED", "event": event}
    return {**said, "timestamp": str(NOW), **fields}


TALK = {"start_time": str(NOW - 70), "end_time": str(NOW), "duration": 70}
OUTGOING = {"direction": "BUSINESS_INITIATED", "from": OURS, "to": THEIRS}
CALLS: dict[str, tuple[Row, Row]] = {
    "connect": (call("connect"), {"status": "ringing", "started_at": at(NOW), "direction": "inbound"}),
    "taken": (
        call("terminate", status="COMPLETED", **TALK),
        {"status": "completed", "duration_seconds": Decimal(70), "answered_at": at(NOW - 70), "ended_at": at(NOW)},
    ),
    "missed": (
        call("terminate", status="COMPLETED"),
        {"status": "missed", "duration_seconds": Decimal(0), "answered_at": None, "ended_at": at(NOW)},
    ),
    "nobody took ours": (call("terminate", status="COMPLETED", **OUTGOING), {"status": "no-answer", "direction": "outbound"}),
    "failed": (
        call("terminate", status="FAILED", errors=[{"code": 138000, "message": "no media"}]),
        {"status": "failed", "end_reason": "no media"},
    ),
    "no duration": (call("terminate", status="COMPLETED", **{**TALK, "duration": None}), {"duration_seconds": Decimal(70)}),
    "no direction": (call("connect", direction=None, **{"from": OURS, "to": THEIRS}), {"direction": "outbound"}),
    "no callee": (call("connect", to=None), {"callee": f"+{OURS}", "caller": f"+{THEIRS}"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_a_row_of_calls(name: str) -> None:
    said, columns = CALLS[name]
    ((table, found),) = rows(delivery("calls", calls=[said]))
    assert (table, found["call_id"], found["provider"]) == ("calls", "wacid.1", "whatsapp")
    assert {column: found.get(column) for column in columns} == columns


@pytest.mark.parametrize(
    ("said", "expected", "column"),
    [("RINGING", "ringing", "started_at"), ("ACCEPTED", "answered", "answered_at"), ("REJECTED", "busy", "ended_at")],
)
@pytest.mark.parametrize("field", ["calls", "messages"])
def test_a_status_of_a_call_is_none_of_a_message(said: str, expected: str, column: str, field: str) -> None:
    body = delivery(field, statuses=[status(said, id="wacid.1", type="call")])
    ((table, found),) = rows(body)
    assert (table, found["status"], found["direction"], found[column]) == ("calls", expected, "outbound", at(NOW))
    ((event,),) = [folded(body).events]
    assert (event.event_id, event.type) == (f"wacid.1:{said}", f"whatsapp.call.{said.lower()}")


def test_an_unknown_status_of_a_call_is_ignored_with_an_error() -> None:
    for body in (
        delivery("calls", statuses=[status("HOLD", id="wacid.1", type="call")]),
        delivery("calls", calls=[call("terminate", status="PAUSED")]),
        delivery("calls", calls=[call("mute")]),
    ):
        ((event,),) = [folded(body).events]
        assert (event.status, bool(event.error)) == ("ignored", True)


def preference(value: str, **fields: Any) -> Row:
    said = {"wa_id": THEIRS, "category": "marketing_messages", "value": value, "timestamp": NOW}
    return {**said, **fields}


def test_a_preference_is_a_row_of_its_own_table() -> None:
    ((table, found),) = rows(delivery("user_preferences", user_preferences=[preference("stop")]))
    assert table == "contact_preferences"
    assert (found["our_number"], found["peer_number"], found["category"]) == (
        f"+{OURS}",
        f"+{THEIRS}",
        "marketing_messages",
    )
    assert (found["value"], found["changed_at"]) == ("stop", at(NOW))


def test_two_preferences_of_one_change_are_two_events_and_one_that_cannot_be_read_leaves_the_other() -> None:
    body = delivery("user_preferences", user_preferences=[preference("stop"), preference("stop", wa_id=None)])
    found = folded(body)
    assert (len(found.events), len(found.letters)) == (1, 1)
    assert "wa_id" in found.letters[0].message
    nameless = preference("stop", wa_id=None, user_id="US.1")
    ((_, row_of_id),) = rows(delivery("user_preferences", user_preferences=[nameless]))
    assert row_of_id["peer_number"] == "US.1"
