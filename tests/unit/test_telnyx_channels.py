"""Design §6: Telnyx's RCS and WhatsApp keep their text and their people elsewhere than SMS."""

import json
from typing import Any

import pytest

from processors.fold import fold_record
from schemas.providers.models import MAX_LISTED
from tests.support.records import FakeRecord, record
from tests.support.rows import rows_of

THEIRS, AGENT = {"phone_number": "+33612345678"}, {"agent_id": "e4448a5c0670c2a9", "agent_name": "Acme"}
NOW = "2026-11-29T10:00:00Z"


def received(**payload: Any) -> FakeRecord:
    said = {"id": "m", "from": THEIRS, "to": [AGENT], **payload}
    body = {"data": {"id": "e", "event_type": "message.received", "occurred_at": NOW, "payload": said}}
    return record("webhooks.telnyx", "telnyx", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"text": "hi"}, "hi"),
        ({"body": {"text": "hi"}}, "hi"),
        ({"body": {"suggestion_response": {"text": "Yes", "postback_data": "y"}}}, "Yes"),
        ({"body": {"type": "interactive", "interactive": {"button_reply": {"title": "Yes"}}}}, "Yes"),
        ({"body": {"type": "text", "text": {"body": "STOP"}}}, "STOP"),
        ({"body": {"user_file": {}}}, None),
        ({"body": "hi"}, None),
        ({}, None),
    ],
)
def test_the_text_is_where_the_channel_keeps_it(payload: dict[str, Any], text: str | None) -> None:
    ((_, row),) = rows_of(received(**payload))
    assert (row.get("body"), row["is_opt_out"]) == (text, text == "STOP")


@pytest.mark.parametrize(
    ("body", "is_opt_out"),
    [
        ({"text": "Stop"}, True),
        ({"suggestion_response": {"text": "Stop"}}, True),
        ({"type": "interactive", "interactive": {"button_reply": {"title": "Stop"}}}, True),
        ({"suggestion_response": {"text": "Cancel", "postback_data": "appointment-7"}}, False),
        ({"text": "Cancel"}, True),
        ({"type": "location", "location": {"name": "End"}}, False),
        ({"type": "contacts", "contacts": [{"name": {"formatted_name": "stop"}}]}, False),
    ],
)
def test_only_what_somebody_wrote_or_tapped_is_an_opt_out(body: dict[str, Any], is_opt_out: bool) -> None:
    ((_, row),) = rows_of(received(body=body))
    assert row["is_opt_out"] is is_opt_out


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        ([None], "text"),
        ([None, None], "text"),
        ([], "text"),
        ([None, {"content_type": "image/png"}, None], "image"),
    ],
)
def test_a_stop_counts_whatever_is_attached(media: list[Any], kind: str) -> None:
    ((_, row),) = rows_of(received(text="STOP", media=media))
    assert (row["is_opt_out"], row["kind"]) == (True, kind)


def test_only_a_hangup_reads_its_cause() -> None:
    said = {"call_leg_id": "c", "hangup_cause": 7}
    data = {"id": "e", "occurred_at": NOW, "payload": said}
    found = {
        verb: fold_record(
            record(
                "webhooks.telnyx",
                "telnyx",
                json.dumps({"data": {"event_type": f"call.{verb}", **data}}).encode(),
            )
        )
        for verb in ("initiated", "answered", "hangup")
    }
    assert {verb: len(one.letters) for verb, one in found.items()} == {"initiated": 0, "answered": 0, "hangup": 1}


def test_rcs_is_a_channel_of_its_own_and_its_agent_is_no_number() -> None:
    ((_, row),) = rows_of(received(type="RCS", body={"text": "hi"}))
    assert (row["channel"], row["sender"], row["recipient"]) == ("rcs", "+33612345678", "e4448a5c0670c2a9")


def test_a_reaction_is_no_message() -> None:
    found = fold_record(received(type="WHATSAPP", body={"type": "reaction", "reaction": {"emoji": "👍"}}))
    assert ([event.status for event in found.events], found.rows, found.letters) == (["ignored"], (), ())


def test_errors_are_read_where_a_message_failed() -> None:
    def finalized(said: str) -> FakeRecord:
        to = [{"phone_number": "+33612345678", "status": said}]
        payload = {"id": "m", "from": {"phone_number": "+33612345679"}, "to": to, "errors": ["odd"]}
        body = {"data": {"id": "e", "event_type": "message.finalized", "occurred_at": NOW, "payload": payload}}
        return record("webhooks.telnyx", "telnyx", json.dumps(body).encode())

    ((_, row),) = rows_of(finalized("delivered"))
    assert row["status"] == "delivered"
    assert fold_record(finalized("delivery_failed")).letters


def test_any_number_of_odd_fields_costs_one_copy() -> None:
    """Invariant 9: a copy for each made four thousand of them take seconds, and as many as are allowed are read."""
    media = [{"content_type": "image/png"}, *({"content_type": 5} for _ in range(MAX_LISTED - 1))]
    ((_, row),) = rows_of(received(text="hi", media=media))
    assert (row["body"], row["kind"]) == ("hi", "image")
