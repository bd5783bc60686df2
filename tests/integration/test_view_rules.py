"""Design §6 through the views, rule by rule: messages, calls, CRM objects. Accounts and credits are in `test_views`."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from processors.fold import combine, fold_record
from processors.store import Store
from tests.support.folding import NoLetters
from tests.support.records import record
from tests.support.tables import empty

NOW = 1_760_000_000
Row = dict[str, Any]


def at(seconds: float) -> datetime:
    return datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC) + timedelta(seconds=seconds)


def twilio(seconds: int = 0, /, **fields: str) -> bytes:
    when = at(seconds).strftime("%a, %d %b %Y %H:%M:%S +0000")
    return urlencode({"From": "+331", "To": "+332", "Timestamp": when, **fields}).encode()


def sms(status: str, **fields: str) -> bytes:
    return twilio(MessageSid="SM1", MessageStatus=status, **fields)


def phone(status: str, seconds: int = 0, **fields: str) -> bytes:
    return twilio(seconds, CallSid="CA1", CallStatus=status, **fields)


def whatsapp(status: str, seconds: int = 0, **fields: Any) -> bytes:
    update = {"id": "wamid.1", "status": status, "timestamp": str(NOW + seconds), "recipient_id": "331", **fields}
    value = {"metadata": {"display_phone_number": "332"}, "statuses": [update]}
    return json.dumps({"entry": [{"changes": [{"field": "messages", "value": value}]}]}).encode()


def sendgrid(kind: str, seconds: int = 0, **fields: Any) -> bytes:
    event = {
        "event": kind,
        "email": "zoe@example.com",
        "timestamp": NOW + seconds,
        "sg_message_id": "m-1.recvd-1.2-3.0",
    }
    return json.dumps([{**event, "sg_event_id": f"{kind}{seconds}", **fields}]).encode()


def telnyx(kind: str, seconds: float = 0, /, **payload: Any) -> bytes:
    when = at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    data = {"id": f"{kind}-{seconds}", "event_type": kind, "occurred_at": when}
    return json.dumps({"data": {**data, "payload": {"call_leg_id": "leg_1", **payload}}}).encode()


def telnyx_message(kind: str, status: str, **fields: Any) -> bytes:
    people = {"from": {"phone_number": "+331"}, "to": [{"phone_number": "+332", "status": status}]}
    return telnyx(f"message.{kind}", id="msg_1", type="SMS", **people, **fields)


def aircall(kind: str, **data: Any) -> bytes:
    call = {"id": 7, "direction": "inbound", "started_at": NOW, "answered_at": None, "ended_at": None, **data}
    return json.dumps({"event": f"call.{kind}", "timestamp": NOW + 99, "token": "t", "data": call}).encode()


def retell(kind: str, **call: Any) -> bytes:
    return json.dumps({"event": f"call_{kind}", "call": {"call_id": "call_1", **call}}).encode()


def crm(verb: str, ms: int = 0, number: int = 1, **fields: Any) -> Row:
    """An event about contact 9 of portal 1, `ms` after the start."""
    start = {"portalId": 1, "subscriptionId": 2, "occurredAt": NOW * 1000 + ms, "eventId": number}
    kind = "" if "." in verb else "contact."
    return {**start, "subscriptionType": kind + verb, "objectId": 9, **fields}


def hubspot(*events: Row) -> bytes:
    return json.dumps(events).encode()


def changed(value: str | None, ms: int = 0, number: int = 1, **fields: Any) -> bytes:
    return hubspot(crm("propertyChange", ms, number, propertyName="phone", propertyValue=value, **fields))


ENDED = {"start_timestamp": NOW * 1000, "end_timestamp": NOW * 1000 + 61_500, "duration_ms": 61_500}
SAID = {"call_analysis": {"call_summary": "Rendez-vous", "user_sentiment": "Positive"}}
PICKED_UP = {"answered_at": NOW + 12}
OVER = {"ended_at": NOW + 72, "duration": 72}
UNREACHED: Row = {"errors": [{"code": 131026, "title": "Message undeliverable"}]}

Case = tuple[str, list[bytes], Row]
MESSAGES: dict[str, Case] = {
    "Meta's played is read": ("whatsapp", [whatsapp("played", 3)], {"status": "read", "read_at": at(3)}),
    "two statuses of one second have the order of their ranks": (
        "whatsapp", [whatsapp("sent"), whatsapp("delivered"), whatsapp("read")],
        {"status": "read", "sent_at": at(0), "delivered_at": at(0), "read_at": at(0)}),
    "times do not order statuses": (
        "whatsapp", [whatsapp("read", 1), whatsapp("delivered", 9)], {"status": "read", "delivered_at": at(9)}),
    "a time is its first": (
        "sendgrid", [sendgrid("open", 9), sendgrid("open", 3)], {"status": "read", "read_at": at(3)}),
    "an error belongs to the status that wins": (
        "whatsapp", [whatsapp("failed", **UNREACHED), whatsapp("sent")],
        {"status": "failed", "error_code": "131026", "error_message": "Message undeliverable"}),
    "an error goes with the status that loses": (
        "twilio", [sms("undelivered", ErrorCode="30007"), sms("delivered")],
        {"status": "delivered", "error_code": None, "error_message": None}),
    "a status without its message is a row": (
        "twilio", [sms("delivered")], {"direction": "outbound", "status": "delivered", "body": None, "delivered_at": None}),
    "a status of somebody without a number is a row": (
        "whatsapp", [whatsapp("failed", recipient_id=None, **UNREACHED)], {"status": "failed", "peer_number": None}),
    "an e-mail's name ends at the first dot, and it has no numbers": (
        "sendgrid", [sendgrid("processed"), sendgrid("delivered", 2, sg_message_id="m-1.other")],
        {"message_id": "m-1", "channel": "email", "status": "delivered", "sent_at": at(0), "delivered_at": at(2),
         "our_number": None, "peer_number": None, "recipient": "zoe@example.com"}),
    "an e-mail that bounces has failed": (
        "sendgrid", [sendgrid("processed"), sendgrid("bounce", 5, reason="unknown", status="5.1.1")],
        {"status": "failed", "error_code": "5.1.1", "error_message": "unknown", "failed_at": at(5)}),
    "an e-mail that is dropped has failed": ("sendgrid", [sendgrid("dropped", 1)], {"status": "failed", "failed_at": at(1)}),
    "Telnyx's sent is sent, whatever it says of the recipient": (
        "telnyx", [telnyx_message("sent", "queued")], {"status": "sent"}),
    **{
        f"Telnyx's {said} is {status}": ("telnyx", [telnyx_message("sent", "sent"), telnyx_message("finalized", said)],
                                        {"message_id": "msg_1", "status": status})
        for said, status in (("delivered", "delivered"), ("delivery_failed", "failed"), ("sending_failed", "failed"),
                             ("expired", "undelivered"), ("delivery_unconfirmed", "sent"))
    },
}  # fmt: skip
CALLS: dict[str, Case] = {
    **{f"Twilio's {said} is {status}": ("twilio", [phone(said)], {"status": status})
       for said, status in (("queued", "ringing"), ("initiated", "ringing"), ("ringing", "ringing"),
                            ("in-progress", "answered"), ("canceled", "canceled"), ("no-answer", "no-answer"),
                            ("busy", "busy"), ("failed", "failed"), ("completed", "completed"))},
    "Twilio says how long a call was": (
        "twilio", [phone("ringing"), phone("in-progress", 9), phone("completed", 80, CallDuration="70")],
        {"status": "completed", "duration_seconds": 70, "talk_seconds": 71, "answered_at": at(9), "ended_at": at(80)}),
    "status and duration come from what ended the call, not from a later phase": (
        "twilio", [phone("completed", 80, CallDuration="70"), phone("in-progress", 90)],
        {"status": "completed", "duration_seconds": 70}),
    "Aircall's duration has the ringing in it, talk has not": (
        "aircall", [aircall("answered", **PICKED_UP), aircall("ended", **PICKED_UP, **OVER)],
        {"call_id": "7", "status": "completed", "duration_seconds": 72, "talk_seconds": 60}),
    "Aircall's call is missed where nobody answered": (
        "aircall", [aircall("created"), aircall("ended", **OVER)],
        {"status": "missed", "duration_seconds": 72, "talk_seconds": None}),
    "Aircall's hungup is not the end": (
        "aircall", [aircall("answered", **PICKED_UP), aircall("hungup", **PICKED_UP, **OVER)],
        {"status": "answered", "duration_seconds": None}),
    "Retell's end is completed": (
        "retell", [retell("started", call_status="ongoing", **ENDED), retell("ended", call_status="ended", **ENDED)],
        {"status": "completed", "duration_seconds": Decimal("61.5"), "started_at": at(0), "ended_at": at(61.5)}),
    "Retell's call was once named data": (
        "retell", [json.dumps({"event": "call_ended", "data": {"call_id": "call_1", "call_status": "ended", **ENDED}}).encode()],
        {"call_id": "call_1", "status": "completed"}),
    "Retell's call that never connects was not answered": (
        "retell", [retell("ended", call_status="not_connected", duration_ms=0)],
        {"status": "no-answer", "duration_seconds": 0, "answered_at": None}),
    "Retell's analysis may come first, and says no status": (
        "retell", [retell("analyzed", call_status="ended", **ENDED, **SAID)],
        {"status": None, "summary": "Rendez-vous", "sentiment": "Positive"}),
    "Retell's analysis stays when the call ends": (
        "retell", [retell("analyzed", call_status="ended", **ENDED, **SAID), retell("ended", call_status="ended", **ENDED)],
        {"status": "completed", "summary": "Rendez-vous", "sentiment": "Positive"}),
    "Telnyx's call is completed where an answer was seen, in whole seconds": (
        "telnyx", [telnyx("call.hangup", 60.2, hangup_cause="normal_clearing"), telnyx("call.answered", 10.5)],
        {"call_id": "leg_1", "status": "completed", "duration_seconds": 49, "talk_seconds": Decimal("49.7")}),
    "Telnyx's answer counts whatever the cause of the hangup": (
        "telnyx", [telnyx("call.hangup", 60, hangup_cause="user_busy"), telnyx("call.answered", 10)],
        {"status": "completed", "duration_seconds": 50}),
    "Telnyx's call without an answer lasted no time": (
        "telnyx", [telnyx("call.initiated", 0), telnyx("call.hangup", 60, hangup_cause="timeout")],
        {"status": "no-answer", "duration_seconds": 0, "answered_at": None}),
    "Telnyx's busy is busy": (
        "telnyx", [telnyx("call.initiated", 0), telnyx("call.hangup", 60, hangup_cause="user_busy")],
        {"status": "busy", "duration_seconds": 0, "end_reason": "user_busy"}),
    "Telnyx's answered call goes on until its hangup": (
        "telnyx", [telnyx("call.initiated", 0), telnyx("call.answered", 5)], {"status": "answered", "duration_seconds": None}),
}  # fmt: skip
CRM: dict[str, Case] = {
    "a change is of an object that exists": (
        "hubspot", [changed("+331")], {"object_type": "contact", "exists": True, "properties": {"phone": "+331"}}),
    "the latest change counts": ("hubspot", [changed("new", 1), changed("old", 0, 9)], {"properties": {"phone": "new"}}),
    "within a millisecond the greater number counts, not the greater text": (
        "hubspot", [changed("new", 0, 10), changed("old", 0, 9)], {"properties": {"phone": "new"}}),
    "a cleared property is null": ("hubspot", [changed("+331"), changed(None, 1)], {"properties": {"phone": None}}),
    "an emptied property is empty": ("hubspot", [changed("+331"), changed("", 1)], {"properties": {"phone": ""}}),
    "a deletion is the end": ("hubspot", [hubspot(crm("creation")), hubspot(crm("deletion", 1))], {"exists": False}),
    "a late change does not revive": ("hubspot", [hubspot(crm("deletion")), changed("+331", 1)], {"exists": False}),
    "a restore revives": ("hubspot", [hubspot(crm("deletion")), hubspot(crm("restore", 1))], {"exists": True}),
    "within a millisecond deletion beats restore": (
        "hubspot", [hubspot(crm("deletion")), hubspot(crm("restore", number=2))], {"exists": False}),
    "within a millisecond deletion beats creation": (
        "hubspot", [hubspot(crm("deletion")), hubspot(crm("creation", number=2))], {"exists": False}),
    "a privacy deletion is one": (
        "hubspot", [hubspot(crm("creation")), hubspot(crm("privacyDeletion", 1))], {"exists": False}),
    **{
        f"type {number} is a {name}": ("hubspot", [changed("1", subscriptionType="object.propertyChange", objectTypeId=number)],
                                       {"object_type": name, "properties": {"phone": "1"}})
        for number, name in (("0-1", "contact"), ("0-2", "company"), ("0-3", "deal"), ("0-5", "ticket"), ("0-14", "0-14"), ("2-77", "2-77"))
    },
    "the type of an event may be named as the documentation does": (
        "hubspot", [hubspot(crm("deletion", subscriptionType=None, eventType="contact.deletion"))], {"exists": False}),
    "both names of one type are one object": (
        "hubspot", [hubspot(crm("creation")), hubspot(crm("object.deletion", 1, objectTypeId="0-1"))],
        {"object_type": "contact", "exists": False}),
}  # fmt: skip
CASES = {
    f"{view}: {name}": (view, *case)
    for view, cases in (("messages", MESSAGES), ("calls", CALLS), ("crm_objects", CRM))
    for name, case in cases.items()
}


async def tell(connection: Any, provider: str, bodies: list[bytes]) -> None:
    """Event by event, each in a transaction of its own."""
    await empty(connection)
    content_type = "application/x-www-form-urlencoded" if provider == "twilio" else "application/json"
    for number, body in enumerate(bodies):
        folded = fold_record(record(f"webhooks.{provider}", provider, body, number, content_type=content_type))
        assert not folded.letters, folded
        await Store(1, NoLetters())._write(connection, combine([folded]))


@pytest.mark.parametrize("name", CASES)
async def test_a_view_says_what_the_design_says(shared_connection: Any, name: str) -> None:
    view, provider, bodies, expected = CASES[name]
    for told in (bodies, bodies[::-1]):
        await tell(shared_connection, provider, told)
        (row,) = await shared_connection.fetch(f"SELECT * FROM {view}")
        found = {column: row[column] for column in expected}
        if "properties" in found:
            found["properties"] = json.loads(found["properties"])
        assert found == expected


async def test_a_merge_deletes_what_is_merged_and_keeps_the_primary_object(shared_connection: Any) -> None:
    merge = crm("merge", 1, objectId=8, primaryObjectId=8, mergedObjectIds=[9, 10])
    for told in ([crm("creation"), merge], [merge, crm("creation")]):
        await tell(shared_connection, "hubspot", [hubspot(event) for event in told])
        rows = await shared_connection.fetch("SELECT object_id, exists FROM crm_objects")
        assert {row["object_id"]: row["exists"] for row in rows} == {"8": True, "9": False, "10": False}


async def test_an_object_of_more_than_a_jsonb_holds_shows_its_small_properties(shared_connection: Any) -> None:
    """Signed events can bring it to any size; one view that raises takes every object from everybody."""
    await tell(
        shared_connection,
        "hubspot",
        [hubspot(crm("creation")), hubspot(crm("propertyChange", propertyName="a", propertyValue="b"))],
    )
    ((before,),) = await shared_connection.fetch("SELECT properties FROM crm_objects")
    await shared_connection.execute(
        "INSERT INTO gen_1.crm_properties (source, portal_id, object_type, object_id, name, value)"
        " SELECT source, portal_id, object_type, object_id, 'p' || n, repeat('x', 4194304)"
        " FROM gen_1.crm_objects, generate_series(1, 70) AS n"
    )
    ((properties, left_out),) = await shared_connection.fetch("SELECT properties, properties_left_out FROM crm_objects")
    shown = json.loads(properties)
    assert {name: shown[name] for name in json.loads(before)} == json.loads(before)
    assert len(shown) + left_out == 70 + len(json.loads(before))
    assert 0 < left_out < 70


async def test_an_e_mail_is_in_no_conversation(shared_connection: Any) -> None:
    await tell(shared_connection, "sendgrid", [sendgrid("delivered")])
    assert await shared_connection.fetchval("SELECT count(*) FROM messages") == 1
    assert await shared_connection.fetchval("SELECT count(*) FROM conversations") == 0
