"""Design §5: a callback of another product of Twilio is `twilio.other`, whatever fields it shares with messages or calls."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from processors.fold import fold_record
from processors.outcome import Folded
from tests.support.records import record

FORM = "application/x-www-form-urlencoded"
PEOPLE = {"From": "+33612345678", "To": "+33644601234"}
IM = {"MessageSid": "IM1", "AccountSid": "AC1", "Body": "stop"}

OTHERS: dict[str, dict[str, str]] = {
    "a message of Conversations": {"EventType": "onMessageAdded", "ConversationSid": "CH1", "Author": "agent-7", **IM},
    "the same before it is added": {"EventType": "onMessageAdd", "ConversationSid": "CH1", "Author": "agent-7", **IM},
    "one that was removed": {"EventType": "onMessageRemoved", "ConversationSid": "CH1", **IM},
    "a receipt of Conversations": {
        "EventType": "onDeliveryUpdated",
        "ConversationSid": "CH1",
        "MessageSid": "IM1",
        "ChannelMessageSid": "SM1",
        "Status": "delivered",
    },
    # The author of a chat stands in the field of a phone number.
    "a message of Programmable Chat": {
        "EventType": "onMessageSent",
        "ChannelSid": "CH1",
        "From": "zoe",
        "To": "",
        **IM,
    },
    "a conversation message whose EventType was lost": {"ConversationSid": "CH1", "Author": "agent-7", **IM},
    "the same with addresses": {"ConversationSid": "CH1", **IM, **PEOPLE},
    "an interaction of Flex": {"EventType": "onParticipantAdded", "InteractionSid": "KD1", "MessageSid": "IM1"},
    "a task of TaskRouter": {
        "EventType": "task.created",
        "TaskSid": "WT1",
        "CallSid": "CA1",
        "CallStatus": "completed",
    },
    "an item of Sync": {"EventType": "item_added", "ServiceSid": "IS1", "ItemData": "{}"},
    "a recording": {"RecordingSid": "RE1", "CallSid": "CA1", "RecordingStatus": "completed", "RecordingDuration": "5"},
    "a conference": {"ConferenceSid": "CF1", "CallSid": "CA1", "StatusCallbackEvent": "participant-join"},
    "a media stream": {"StreamSid": "MZ1", "CallSid": "CA1", "StreamEvent": "stream-started"},
    "answering machine detection": {"CallSid": "CA1", "AnsweredBy": "human", "MachineDetectionDuration": "3000"},
    "a room of Video": {"RoomSid": "RM1", "RoomStatus": "in-progress", "StatusCallbackEvent": "room-created"},
    "a fax": {"FaxSid": "FX1", "FaxStatus": "received", **PEOPLE},
    "a verification": {"VerificationSid": "VE1", "Status": "approved", "To": "+33612345678"},
    "the debugger": {"Sid": "NO1", "AccountSid": "AC1", "Level": "ERROR", "Payload": "{}"},
    "a click on a short link": {"event_type": "click", "sms_sid": "SM1", "to": "+33612345678", "from": "+33644601234"},
    "a proxy's interaction": {"interactionSid": "KI1", "inboundResourceSid": "SM1", "interactionType": "Message"},
    "a regulatory bundle": {"BundleSid": "BU1", "Status": "twilio-approved"},
    "a message without people": {"MessageSid": "SM1", "Body": "stop"},
    # Whatever they say of a message, they are about something else.
    "a conversation that names a message": {"EventType": "onDeliveryUpdated", "MessageSid": "SM1", "MessageStatus": "read"},
    "a task that names a message": {"EventType": "task.created", "MessageSid": "SM1", "SmsStatus": "received", **PEOPLE},
    "an item that names a message": {"EventType": "item_added", "MessageSid": "SM1", "MessageStatus": "sent"},
    "a service's event": {"EventType": "READ", "ServiceSid": "IS1", "MessageSid": "SM1", "MessageStatus": "read"},
    "an event without a status": {"EventType": "READ", "MessageSid": "SM1", **PEOPLE},
}  # fmt: skip

CHANNEL = {
    "ChannelPrefix": "whatsapp",
    "ChannelInstallSid": "XE1",
    "From": "whatsapp:+33644601234",
    "To": "whatsapp:+33612345678",
}
"""What Twilio adds to the callbacks of WhatsApp and RCS, beside an `EventType`."""

OURS: dict[str, tuple[dict[str, str], str, str]] = {
    "an inbound SMS": ({"MessageSid": "SM1", "SmsStatus": "received", "Body": "hi", **PEOPLE}, "SM1", "message.received"),
    "an inbound MMS": ({"MessageSid": "MM1", "NumMedia": "1", **PEOPLE}, "MM1", "message.received"),
    "a status": ({"MessageSid": "SM1", "MessageStatus": "sent", "SmsStatus": "sent"}, "SM1:sent", "message.sent"),
    "a status under its older name": ({"MessageSid": "SM1", "SmsStatus": "sent", **PEOPLE}, "SM1:sent", "message.sent"),
    "a status before there is a sender": ({"MessageSid": "SM1", "MessageStatus": "accepted"}, "SM1:accepted", "message.accepted"),
    **{
        f"{said} on WhatsApp": ({"EventType": said.upper(), "MessageSid": "SM1", "MessageStatus": said, "SmsStatus": said, **CHANNEL},
                                f"SM1:{said}", f"message.{said}")
        for said in ("read", "delivered", "sent")
    },
    "undelivered on WhatsApp": ({"EventType": "UNDELIVERED", "ErrorCode": "63016", "MessageSid": "SM1", "MessageStatus": "undelivered",
                                 **CHANNEL}, "SM1:undelivered", "message.undelivered"),
    "delivered on RCS": ({"EventType": "DELIVERED", "MessageSid": "SM1", "SmsStatus": "delivered", "From": "rcs:acme", "To": "rcs:+33612345678"},
                         "SM1:delivered", "message.delivered"),
    "an inbound WhatsApp": ({"MessageSid": "SM1", "SmsStatus": "received", "Body": "hi", **CHANNEL}, "SM1", "message.received"),
    "an inbound WhatsApp that is named": ({"EventType": "RECEIVED", "MessageSid": "SM1", "SmsStatus": "received", "Body": "stop", **CHANNEL},
                                          "SM1", "message.received"),
    "a call": ({"CallSid": "CA1", "CallStatus": "ringing", **PEOPLE}, "CA1:ringing", "call.ringing"),
}  # fmt: skip

JSON = {
    "Voice Intelligence": {"account_sid": "AC1", "transcript_sid": "GT1", "event_type": "voice_intelligence_transcript_available"},
    "the debugger": {"sid": "NO1", "level": "ERROR", "payload": {}},
}  # fmt: skip


def folded(body: bytes, content_type: str = FORM) -> Folded:
    found = fold_record(record("webhooks.twilio", "twilio", body, content_type=content_type))
    assert found.letters == ()
    return found


def expect_other(found: Folded) -> None:
    ((event,), rows) = found.events, found.rows
    assert (event.type, event.status, rows) == ("twilio.other", "ignored", ())
    assert event.error
    assert event.event_id == event.record_id


@pytest.mark.parametrize("name", OTHERS)
def test_a_callback_of_another_product_is_indexed_and_ignored(name: str) -> None:
    expect_other(folded(urlencode(OTHERS[name]).encode()))


@pytest.mark.parametrize("name", JSON)
def test_json_of_another_product_is_indexed_and_ignored(name: str) -> None:
    expect_other(folded(json.dumps(JSON[name]).encode(), "application/json"))


@pytest.mark.parametrize("name", OURS)
def test_messages_and_calls_are_told_by_all_that_they_have(name: str) -> None:
    fields, event_id, kind = OURS[name]
    found = folded(urlencode(fields).encode())
    assert [(one.event_id, one.type) for one in found.events] == [(event_id, f"twilio.{kind}")]
    assert len(found.rows) == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Body": "hi"}, "hi"),
        ({"Body": "", "ButtonText": "Confirm"}, "Confirm"),
        ({"Body": "", "Label": "Café", "Address": "1 rue de la Paix"}, "Café"),
        ({"Body": "", "Address": "1 rue de la Paix"}, "1 rue de la Paix"),
        ({"Body": ""}, None),
    ],
)
def test_the_text_is_where_the_message_keeps_it(fields: dict[str, str], text: str | None) -> None:
    people = {"From": "whatsapp:+33612345678", "To": "whatsapp:+33644601234"}
    found = folded(urlencode({"MessageSid": "SM1", "SmsStatus": "received", **people, **fields}).encode())
    ((table, row),) = found.rows
    assert row[[column.name for column in table.columns].index("body")] == text


@pytest.mark.parametrize(
    ("fields", "is_opt_out"),
    [
        ({"Body": "Stop"}, True),
        ({"Body": "", "ButtonText": "STOP"}, True),
        ({"Body": "Cancel"}, True),
        ({"Body": "Cancel", "ButtonText": "Cancel", "ButtonPayload": "cancel-appointment-42"}, False),
        ({"Body": "End", "ButtonPayload": "x"}, False),
        ({"Body": "Stop", "ButtonText": "Stop", "ButtonPayload": "x"}, True),
        ({"Body": "", "Label": "End"}, False),
        ({"Body": "", "Address": "Quit"}, False),
        ({"Body": "Bye", "OptOutType": "STOP"}, True),
        ({"Body": "stop", "OptOutType": "START"}, False),
        ({"Body": "cancel", "OptOutType": "HELP"}, False),
        ({"Body": "stop", "OptOutType": ""}, True),
    ],
)
def test_what_twilio_says_of_an_opt_out_decides_and_else_what_somebody_wrote(
    fields: dict[str, str], is_opt_out: bool
) -> None:
    found = folded(urlencode({"MessageSid": "SM1", "SmsStatus": "received", **PEOPLE, **fields}).encode())
    ((table, row),) = found.rows
    assert row[[column.name for column in table.columns].index("is_opt_out")] is is_opt_out


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SENT", {}, None),
        ("DELIVERED", [], None),
        ("READ", 0, None),
        ("UNDELIVERED", 30007, "30007"),
        ("FAILED", "21614", "21614"),
        ("FAILED", None, None),
    ],
)
def test_only_a_failure_reads_its_error_code(status: str, code: Any, expected: str | None) -> None:
    data = {"messageSid": "SM1", "messageStatus": status, "errorCode": code}
    kind = f"com.twilio.messaging.message.{status.lower()}"
    event = {"specversion": "1.0", "id": "EZ1", "type": kind, "time": "2026-11-29T10:00:00Z", "data": data}
    found = folded(json.dumps([event]).encode(), "application/json")
    ((table, row),) = found.rows
    assert row[[column.name for column in table.columns].index("error_code")] == expected


def test_a_reaction_passed_on_by_twilio_is_no_message() -> None:
    said = {"MessageSid": "SM1", "MessageType": "reaction", "Body": "stop", "SmsStatus": "received", **PEOPLE}
    found = folded(urlencode(said).encode())
    assert [(event.status, bool(event.error)) for event in found.events] == [("ignored", True)]
    assert found.rows == ()
