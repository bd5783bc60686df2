"""Design §5, §6: every update of WhatsApp has its own identity, and is read as what it is."""

from typing import Any

import pytest

from tests.support.story.base import at
from tests.support.whatsapp import NOW, OURS, THEIRS, Row, delivery, folded, message, row, status

TEXTS: dict[str, tuple[str, Any, str | None]] = {
    "text": ("text", {"body": "hi"}, "hi"),
    "caption": ("image", {"id": "1", "caption": "the receipt"}, "the receipt"),
    "caption of a video": ("video", {"caption": "look"}, "look"),
    "caption of a document": ("document", {"filename": "a.pdf", "caption": "signed"}, "signed"),
    "document without a caption": ("document", {"filename": "a.pdf"}, None),
    "voice message": ("audio", {"id": "1", "voice": True}, None),
    "sticker": ("sticker", {"id": "1"}, None),
    "button of a template": ("button", {"payload": "p", "text": "Yes"}, "Yes"),
    "reply button": ("interactive", {"type": "button_reply", "button_reply": {"id": "b", "title": "Yes"}}, "Yes"),
    "row of a list": (
        "interactive",
        {"type": "list_reply", "list_reply": {"id": "r", "title": "Large", "description": "12 slices"}},
        "Large",
    ),
    "row of a list without a title": ("interactive", {"list_reply": {"id": "r", "description": "12"}}, "12"),
    "flow": (
        "interactive",
        {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": '{"date":"2026-12-01"}'}},
        '{"date":"2026-12-01"}',
    ),
    "flow without answers": ("interactive", {"nfm_reply": {"name": "flow", "body": "Sent"}}, "Sent"),
    "permission to call": ("interactive", {"call_permission_reply": {"response": "accept"}}, "accept"),
    "order": ("order", {"catalog_id": "1", "text": "two of each", "product_items": []}, "two of each"),
    "order without a word": ("order", {"catalog_id": "1", "product_items": []}, None),
    "place": ("location", {"latitude": 1, "longitude": 2, "name": "Café", "address": "rue"}, "Café"),
    "point": ("location", {"latitude": 1, "longitude": 2}, None),
    "contact": ("contacts", [{"name": {"formatted_name": "Zoé", "first_name": "Zoé"}}], "Zoé"),
    "nothing where the text should be": ("text", None, None),
    "a text of another type": ("text", {"body": 5}, None),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_found_where_the_type_keeps_it(name: str) -> None:
    kind, content, text = TEXTS[name]
    found = row(delivery("messages", messages=[message(kind, content)]))
    assert (found["kind"], found.get("body"), found["direction"]) == (kind, text, "inbound")


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_of_an_edit_is_found_where_the_type_keeps_it(name: str) -> None:
    kind, content, text = TEXTS[name]
    new = {"context": {"id": "M0"}, "type": kind, kind: content}
    edit = message("edit", {"original_message_id": "wamid.0", "message": new}, id="wamid.e")
    found = row(delivery("messages", messages=[edit]))
    is_of_a_type_with_text = kind not in ("audio", "sticker")
    assert (found["message_id"], found.get("edited_body")) == (
        "wamid.0",
        text or ("" if is_of_a_type_with_text else None),
    )
    assert found["edited_at"] == at(NOW)


OPT_OUTS: dict[str, tuple[str, Any, bool]] = {
    "text": ("text", {"body": "Stop"}, True),
    "button of a template": ("button", {"text": "STOP"}, True),
    "reply button": ("interactive", {"button_reply": {"title": "Stop"}}, True),
    "row of a list": ("interactive", {"list_reply": {"title": "Unsubscribe", "description": "12"}}, True),
    "button of a template for marketing": ("button", {"text": "Stop promotions"}, True),
    "another of those": ("button", {"text": "Unsubscribe from Promos"}, True),
    "cancels an appointment": ("interactive", {"button_reply": {"id": "cancel-7", "title": "Cancel"}}, False),
    "ends a chat": ("interactive", {"list_reply": {"title": "End", "description": "the chat"}}, False),
    "of a template, about something else": ("button", {"text": "Quit"}, False),
    "description of a row": ("interactive", {"list_reply": {"description": "stop"}}, False),
    "place": ("location", {"name": "End"}, False),
    "address": ("location", {"address": "Quit"}, False),
    "contact": ("contacts", [{"name": {"formatted_name": "stop"}}], False),
    "note of an order": ("order", {"text": "cancel"}, False),
    "caption": ("image", {"caption": "stop"}, False),
    "flow": ("interactive", {"nfm_reply": {"body": "end"}}, False),
    "permission to call": ("interactive", {"call_permission_reply": {"response": "revoke"}}, False),
}


@pytest.mark.parametrize("name", OPT_OUTS)
def test_only_what_somebody_wrote_or_tapped_is_an_opt_out(name: str) -> None:
    kind, content, is_opt_out = OPT_OUTS[name]
    assert row(delivery("messages", messages=[message(kind, content)]))["is_opt_out"] is is_opt_out
    new = {"original_message_id": "wamid.0", "message": {"type": kind, kind: content}}
    assert row(delivery("messages", messages=[message("edit", new)]))["is_opt_out"] is is_opt_out


ABOUT: dict[str, tuple[Row, Row]] = {
    "edit": (
        message("edit", {"original_message_id": "wamid.0", "message": {"type": "text", "text": {"body": "new"}}}),
        {"edited_body": "new", "edited_at": at(NOW), "is_opt_out": False},
    ),
    "edit into an opt-out": (
        message("edit", {"original_message_id": "wamid.0", "message": {"type": "text", "text": {"body": "Stop"}}}),
        {"edited_body": "Stop", "is_opt_out": True},
    ),
    "revoke": (message("revoke", {"original_message_id": "wamid.0"}), {"revoked_at": at(NOW)}),
    "reaction": (message("reaction", {"message_id": "wamid.0", "emoji": "👍"}), {"reaction": "👍"}),
    "reaction taken back": (message("reaction", {"message_id": "wamid.0"}), {"reaction": ""}),
}


@pytest.mark.parametrize("name", ABOUT)
def test_what_is_about_a_message_stands_in_its_row_and_in_no_conversation(name: str) -> None:
    said, columns = ABOUT[name]
    found = row(delivery("messages", messages=[said]))
    assert found["message_id"] == "wamid.0"
    assert {column: found.get(column) for column in columns} == columns
    assert not found.keys() & {"direction", "our_number", "peer_number", "status", "kind", "body", "occurred_at"}


UNREAD: dict[str, Row] = {
    "a number that changed": message(
        "system", {"body": "User A changed from 1 to 2", "wa_id": "34600111333", "type": "user_changed_number"}
    ),
    "another device": message("system", {"body": "code changed", "type": "customer_identity_changed"}),
    "an edit that is not passed on": message("unsupported", {"type": "edit"}, errors=[{"code": 131051}]),
    "a vote in a poll": message("unsupported", {"type": "poll_update"}, errors=[{"code": 131051}]),
    "a message that is pinned": message("pin", {"message_id": "wamid.0"}),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_nobody_wrote_is_indexed_and_no_message(name: str) -> None:
    found = folded(delivery("messages", messages=[UNREAD[name]]))
    assert ([event.status for event in found.events], found.rows, found.letters) == (["ignored"], (), ())


UNREADABLE = {
    "an edit of nothing": message("edit", {"message": {"type": "text", "text": {"body": "new"}}}),
    "an edit that is no object": message("edit", "x"),
    "a reaction without a time": message("reaction", {"message_id": "wamid.0", "emoji": "👍"}, timestamp=None),
    "a text that is no object": message("text", 5),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_read_and_cannot_be_is_a_dead_letter_that_names_the_field(name: str) -> None:
    other = message("text", {"body": "hi"}, id="wamid.2")
    found = folded(delivery("messages", messages=[UNREADABLE[name], other]))
    ((letter,), (event,)) = found.letters, found.events
    assert (letter.reason, event.event_id) == ("invalid_payload", "wamid.2")
    assert any(field in letter.message for field in ("edit", "timestamp", "text"))


@pytest.mark.parametrize(
    ("metadata", "our_number"),
    [
        ({"display_phone_number": int(OURS)}, f"+{OURS}"),
        ({"display_phone_number": None}, None),
        ({"display_phone_number": True}, None),
        ({"display_phone_number": {}}, None),
        ({"display_phone_number": 1.5}, None),
        ({"display_phone_number": ""}, None),
        ({}, None),
        ([], None),
        ("x", None),
        (None, None),
    ],
)
def test_a_stop_counts_whatever_stands_where_our_number_should(metadata: Any, our_number: str | None) -> None:
    stop = message("text", {"body": "STOP"})
    found = row(delivery("messages", metadata=metadata, messages=[stop]))
    assert (found["is_opt_out"], found.get("our_number"), found["sender"]) == (True, our_number, f"+{THEIRS}")
    assert row(delivery("messages", metadata=metadata, statuses=[status("read")])).get("our_number") == our_number


def echo(kind: str, content: Any, **fields: Any) -> Row:
    return {**message(kind, content, **fields), "from": OURS, "to": THEIRS}


OUTBOUND = {
    "an echo of the phone": delivery("smb_message_echoes", message_echoes=[echo("text", {"body": "stop"})]),
    "an echo under its other name": delivery("message_echoes", message_echoes=[echo("text", {"body": "stop"})]),
    "a message of the history": delivery(
        "history",
        history=[{"threads": [{"id": THEIRS, "messages": [echo("text", {"body": "stop"}, to=None)]}]}],
    ),
    "media of the history": delivery("history", messages=[echo("image", {"id": "1", "caption": "stop"}, to=THEIRS)]),
    "an echo where our number is not said": delivery(
        "smb_message_echoes", metadata=None, message_echoes=[echo("text", {"body": "stop"})]),
    **{
        f"a message of the history {name}": delivery(
            "history", metadata=metadata,
            history=[{"threads": [{"id": thread, "messages": [echo("text", {"body": "stop"}, **said)]}]}],
        )
        for name, metadata, thread, said in (
            ("that says so", None, None, {"history_context": {"from_me": True}, "to": THEIRS}),
            ("that says so, of a chat", None, THEIRS, {"history_context": {"from_me": True, "status": "SENT"}, "to": None}),
            ("in a chat with another", None, THEIRS, {"to": None}),
            ("with an odd context", None, THEIRS, {"history_context": {"from_me": {}}, "to": None}),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OUTBOUND)
def test_what_the_business_wrote_is_outbound_and_nobodys_opt_out(name: str) -> None:
    found = row(OUTBOUND[name])
    assert (found["direction"], found["status"], found["body"], found["is_opt_out"]) == (
        "outbound",
        "sent",
        "stop",
        False,
    )
    assert (found["sender"], found["our_number"]) == (f"+{OURS}", f"+{OURS}")
    assert (found["recipient"], found["peer_number"], found["sent_at"]) == (f"+{THEIRS}", f"+{THEIRS}", at(NOW))


@pytest.mark.parametrize(("field", "odd"), [("errors", "x"), ("errors", {}), ("group_id", 5), ("group_id", {})])
def test_a_stop_counts_whatever_stands_beside_it(field: str, odd: Any) -> None:
    found = row(delivery("messages", messages=[message("text", {"body": "STOP"}, **{field: odd})]))
    assert (found["is_opt_out"], found["peer_number"]) == (True, f"+{THEIRS}")


def test_errors_are_read_where_a_status_tells_of_a_failure() -> None:
    assert row(delivery("messages", statuses=[status("delivered", errors="x")]))["status"] == "delivered"
    assert folded(delivery("messages", statuses=[status("failed", errors="x")])).letters
