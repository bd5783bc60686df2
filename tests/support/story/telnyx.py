"""Messages come in and go out, and calls are taken, missed and refused; some of it is told twice, or in part."""

import json
import uuid
from datetime import datetime, timedelta
from decimal import Decimal

from tests.support import signing_telnyx as signing
from tests.support.story.base import Author, Row, Webhook, at

OURS = "+33644601234"
LIVES = (
    ["sent"],
    ["sent", "delivered"],
    ["sent", "delivery_failed"],
    ["sent", "expired"],
    ["sent", "delivery_unconfirmed"],
    ["sending_failed"],
    # The outcome without its `message.sent`: it was lost, and the row is there all the same.
    ["delivered"],
    ["expired"],
)
BECOMES = {
    "delivery_failed": "failed",
    "sending_failed": "failed",
    "expired": "undelivered",
    "delivery_unconfirmed": "sent",
}
ERRORS = {
    "delivery_failed": ("40008", "The recipient carrier did not accept the message."),
    "sending_failed": ("40300", "Blocked due to STOP message"),
    "expired": ("40011", "Message expired in the queue"),
}
HANGUPS = ("call_rejected", "originator_cancel", "timeout", "no_answer", "user_busy")


def tell(author: Author) -> None:
    customer = f"+336{author.random.randrange(10**8):08d}"
    _chat(author, customer)
    _call(author, customer)


def _name(author: Author) -> str:
    return str(uuid.UUID(int=author.random.getrandbits(128), version=4))


def _after(moment: datetime, milliseconds: int) -> datetime:
    return moment + timedelta(milliseconds=milliseconds)


def _event(author: Author, kind: str, when: str, payload: Row) -> None:
    """One event; often posted to the failover URL too: the same id and data, another `meta`, signed afresh."""
    event_id = _name(author)
    data = {"event_type": kind, "id": event_id, "occurred_at": when, "payload": payload, "record_type": "event"}
    for attempt, host in enumerate(("hooks", "hooks2")[: author.random.choice([1, 1, 2])], start=1):
        meta = {"attempt": attempt, "delivered_to": f"https://{host}.example.com/webhooks/telnyx"}
        body = json.dumps({"data": data, "meta": meta}, ensure_ascii=False).encode()
        author.tells(Webhook("/webhooks/telnyx", body, lambda _, b, now: signing.telnyx(b, now)), "telnyx", event_id)


def _message(author: Author, sender: str, recipient: str, taken: datetime, text: str | None) -> Row:
    return {
        "id": _name(author),
        "record_type": "message",
        "type": "SMS",
        "from": {"carrier": "", "phone_number": sender},
        "to": [{"phone_number": recipient, "status": "queued"}],
        "text": text,
        "media": [],
        "errors": [],
        "received_at": taken.isoformat(timespec="milliseconds"),
        "sent_at": None,
        "completed_at": None,
    }


def _chat(author: Author, customer: str) -> None:
    start = _after(at(author.moment()), author.random.randrange(1000))
    last_inbound_at = start
    inbound = author.random.randrange(1, 4)
    for number in range(inbound):
        last_inbound_at = _after(start, 60_000 * number)
        _received(author, customer, last_inbound_at)
    last_outbound_at = _after(start, 600_000)
    _sent(author, customer, last_outbound_at)
    author.world.expect(
        "conversations",
        ("telnyx", "sms", OURS, customer),
        inbound=inbound,
        outbound=1,
        last_inbound_at=last_inbound_at,
        last_outbound_at=last_outbound_at,
    )
    if author.random.random() < 0.3:
        _picture(author, customer, _after(start, 700_000))


def _received(author: Author, customer: str, taken: datetime) -> None:
    text = author.random.choice(["Ça marche 🌊", "ok", "STOP", " stop ", "Stop demain"])
    message = _message(author, customer, OURS, taken, text)
    _event(author, "message.received", _after(taken, 59).isoformat(timespec="milliseconds"), message)
    author.world.expect(
        "messages",
        ("telnyx", message["id"]),
        provider="telnyx",
        channel="sms",
        direction="inbound",
        sender=customer,
        recipient=OURS,
        our_number=OURS,
        peer_number=customer,
        kind="text",
        body=text,
        status="received",
        error_code=None,
        is_opt_out=text in ("STOP", " stop "),
        sent_at=None,
        delivered_at=None,
        occurred_at=taken,
    )


def _picture(author: Author, customer: str, taken: datetime) -> None:
    message = _message(author, customer, OURS, taken, None)
    media = [{"url": "https://media.example.com/1", "content_type": "image/jpeg", "size": 102_400}]
    _event(
        author,
        "message.received",
        _after(taken, 80).isoformat(),
        {**message, "type": "MMS", "text": "", "media": media},
    )
    author.world.expect(
        "messages",
        ("telnyx", message["id"]),
        channel="mms",
        direction="inbound",
        kind="image",
        body=None,
        status="received",
        occurred_at=taken,
    )
    author.world.expect(
        "conversations",
        ("telnyx", "mms", OURS, customer),
        inbound=1,
        outbound=0,
        last_inbound_at=taken,
        last_outbound_at=None,
    )


def _sent(author: Author, customer: str, taken: datetime) -> None:
    """Every event repeats the whole message as it then stood; `received_at` is when Telnyx took it on."""
    life = author.random.choice(LIVES)
    text, end = "RDV confirmé", life[-1]
    message = _message(author, OURS, customer, taken, text)
    sent_at = None if end == "sending_failed" else _after(taken, 44)
    ended_at = _after(taken, author.random.randrange(100, 90_000))
    for status in life:
        state = {**message, "to": [{"phone_number": customer, "status": status}]}
        state["sent_at"] = sent_at.isoformat(timespec="milliseconds") if sent_at else None
        if status == "sent":
            _event(author, "message.sent", _after(taken, 50).isoformat(timespec="milliseconds"), state)
            continue
        # `completed_at` is the time of the outcome; without it, the event's own time is.
        has_completed_at = author.random.random() < 0.8
        state["completed_at"] = ended_at.isoformat(timespec="milliseconds") if has_completed_at else None
        state["errors"] = [{"code": ERRORS[end][0], "title": "x", "detail": ERRORS[end][1]}] if end in ERRORS else []
        when = _after(ended_at, 7) if has_completed_at else ended_at
        _event(author, "message.finalized", when.isoformat(timespec="milliseconds"), state)
    status = BECOMES.get(end, end)
    author.world.expect(
        "messages",
        ("telnyx", message["id"]),
        provider="telnyx",
        channel="sms",
        direction="outbound",
        sender=OURS,
        recipient=customer,
        our_number=OURS,
        peer_number=customer,
        kind="text",
        body=text,
        status=status,
        error_code=ERRORS[end][0] if end in ERRORS else None,
        error_message=ERRORS[end][1] if end in ERRORS else None,
        is_opt_out=False,
        sent_at=sent_at,
        delivered_at=ended_at if status == "delivered" else None,
        read_at=None,
        failed_at=ended_at if status in ("failed", "undelivered") else None,
        occurred_at=taken,
    )


def _call(author: Author, customer: str) -> None:
    """The phases are told in any order, the answer also after the hangup; and the first may never be told."""
    start, leg = _after(at(author.moment()), author.random.randrange(1000)), _name(author)
    is_incoming, is_answered = author.random.random() < 0.5, author.random.random() < 0.6
    has_ended, has_beginning = author.random.random() < 0.9, author.random.random() < 0.8
    peer = author.random.choice([customer, "sip:zoe@example.com:5060"])
    caller, callee = (peer, OURS) if is_incoming else (OURS, peer)
    answered_at, ended_at, cause = None, None, None
    url = None
    payload: Row = {"call_leg_id": leg, "from": caller, "to": callee, "start_time": _zulu(start)}
    steps = []
    if has_beginning:
        direction = "incoming" if is_incoming else "outgoing"
        steps.append(("call.initiated", start, {**payload, "direction": direction}))
    if is_answered:
        answered_at = _after(start, author.random.randrange(1000, 20_000))
        steps.append(("call.answered", answered_at, payload))
    if has_ended or not steps:
        cause = "normal_clearing" if is_answered else author.random.choice(HANGUPS)
        ended_at = _after(answered_at or start, author.random.randrange(1, 600_000))
        steps.append(("call.hangup", ended_at, {**payload, "hangup_cause": cause, "hangup_source": "caller"}))
    if answered_at and ended_at and author.random.random() < 0.5:
        url = f"https://recordings.example.com/{leg}.mp3"
        urls = {"recording_urls": {"mp3": url}, "public_recording_urls": {}}
        steps.append(("call.recording.saved", _after(ended_at, 3000), {"call_leg_id": leg, **urls}))
    author.random.shuffle(steps)
    for kind, when, said in steps:
        _event(author, kind, _zulu(when), said)
    author.world.expect(
        "calls",
        ("telnyx", leg),
        provider="telnyx",
        direction=("inbound" if is_incoming else "outbound") if has_beginning else None,
        caller=caller,
        callee=callee,
        status=_status(answered_at, cause),
        started_at=start,
        answered_at=answered_at,
        ended_at=ended_at,
        **_durations(answered_at, ended_at),
        end_reason=cause,
        recording_url=url,
    )


def _zulu(moment: datetime) -> str:
    """Calls have microseconds and a Z, where messages have milliseconds and an offset."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _status(answered_at: datetime | None, cause: str | None) -> str:
    if cause is None:
        return "answered" if answered_at else "ringing"
    if answered_at:
        return "completed"
    return "busy" if cause == "user_busy" else "no-answer"


def _durations(answered_at: datetime | None, ended_at: datetime | None) -> Row:
    """Whole seconds from answer to hangup, 0 without an answer; the talk to the millisecond."""
    if ended_at is None:
        return {"duration_seconds": None, "talk_seconds": None}
    if answered_at is None:
        return {"duration_seconds": 0, "talk_seconds": None}
    milliseconds = (ended_at - answered_at) // timedelta(milliseconds=1)
    return {"duration_seconds": milliseconds // 1000, "talk_seconds": Decimal(milliseconds) / 1000}
