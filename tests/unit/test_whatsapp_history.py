"""Histories, groups and payments of WhatsApp."""

from typing import Any

import pytest

from tests.support.whatsapp import OURS, THEIRS, Row, delivery, folded, message, row, rows, status


def echo(kind: str, content: Any, **fields: Any) -> Row:
    return {**message(kind, content, **fields), "from": OURS, "to": THEIRS}


@pytest.mark.parametrize(
    ("said", "expected"),
    [("READ", "read"), ("PLAYED", "read"), ("DELIVERED", "delivered"), ("SENT", "sent"), ("PENDING", "sending"),
     ("ERROR", "failed"), ("?", "sent"), (None, "sent")],
)  # fmt: skip
def test_a_message_of_the_history_has_the_status_that_it_had(said: str | None, expected: str) -> None:
    chat = [
        echo("text", {"body": "hi"}, history_context={"status": said}),
        message("text", {"body": "ok"}, id="wamid.2"),
    ]
    body = delivery("history", history=[{"metadata": {"phase": 0}, "threads": [{"id": THEIRS, "messages": chat}]}])
    ((_, ours), (_, theirs)) = rows(body)
    assert (ours["status"], theirs["status"], theirs["direction"]) == (expected, "received", "inbound")
    assert [event.event_id for event in folded(body).events] == ["history:wamid.1:text", "history:wamid.2:text"]


def test_a_history_that_is_not_shared_is_a_change_like_any_other() -> None:
    found = folded(delivery("history", history=[{"errors": [{"code": 2593109}]}]))
    assert [(event.type, event.status) for event in found.events] == [("whatsapp.history", "ignored")]


GROUP = {"recipient_id": "Y2FwaV9ncm91cDpjYXNl", "recipient_type": "group"}


@pytest.mark.parametrize(
    ("fields", "event_id"),
    [
        ({}, "wamid.1:read"),
        ({**GROUP, "recipient_participant_id": "34600000001"}, "wamid.1:read:34600000001"),
        ({**GROUP, "recipient_participant_user_id": "US.1"}, "wamid.1:read:US.1"),
        (GROUP, "wamid.1:read"),
    ],
)
def test_a_status_of_a_group_is_one_participants(fields: Row, event_id: str) -> None:
    found = folded(delivery("messages", statuses=[status("read", **fields)]))
    assert [event.event_id for event in found.events] == [event_id]


def test_a_group_is_a_conversation_of_its_own_whoever_writes_in_it() -> None:
    inbound = row(delivery("messages", messages=[message("text", {"body": "hi"}, group_id="120363041234567890")]))
    assert (inbound["sender"], inbound["peer_number"]) == (f"+{THEIRS}", "120363041234567890")
    outbound = row(
        delivery("messages", statuses=[status("sent", recipient_type="group", recipient_id="120363041234567890")])
    )
    assert (outbound["recipient"], outbound["peer_number"]) == ("120363041234567890", "120363041234567890")


@pytest.mark.parametrize("from_me", [False, None])
def test_what_the_other_side_wrote_in_the_history_is_inbound(from_me: bool | None) -> None:
    said = message("text", {"body": "STOP"}, history_context={"from_me": from_me})
    found = row(delivery("history", metadata=None, history=[{"threads": [{"id": THEIRS, "messages": [said]}]}]))
    assert (found["direction"], found["sender"], found["is_opt_out"]) == ("inbound", f"+{THEIRS}", True)


def test_a_groups_history_is_inbound_whoever_of_its_members_wrote_it() -> None:
    said = message("text", {"body": "hi"})
    history = [{"threads": [{"id": "120363041234567890@g.us", "messages": [said]}]}]
    assert row(delivery("history", history=history))["direction"] == "inbound"


@pytest.mark.parametrize("said", ["captured", "pending", "failed", "sent", None])
def test_the_status_of_a_payment_is_no_status_of_the_message(said: str | None) -> None:
    paid = {**status("x", type="payment", payment={"reference_id": "order-1"}), "status": said}
    found = folded(delivery("messages", statuses=[status("delivered"), paid]))
    assert [(event.type, event.status, event.error) for event in found.events] == [
        ("whatsapp.status.delivered", "applied", None),
        (f"whatsapp.payment.{said or 'unknown'}", "ignored", None),
    ]
    ((_, row),) = rows(delivery("messages", statuses=[status("delivered"), paid]))
    assert (row["status"], row.get("failed_at")) == ("delivered", None)


def test_two_statuses_of_one_payment_are_two_events() -> None:
    first = {**status("failed", type="payment"), "timestamp": "1"}
    found = folded(delivery("messages", statuses=[status("failed"), first, {**first, "timestamp": "2"}]))
    assert len({event.event_id for event in found.events}) == 3
