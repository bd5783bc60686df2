"""Messages come in and go out, and a call is made or taken. Forms tell of all, Event Streams of some messages again."""

import hashlib
import json
from datetime import datetime
from urllib.parse import urlencode

from tests.support import signing
from tests.support.story.base import Author, Row, Webhook, at

OURS = "+33644601234"
CHANNELS = {
    "sms": ("SM", ""),
    "mms": ("MM", ""),
    "whatsapp": ("SM", "whatsapp:"),
    "rcs": ("SM", "rcs:"),
    "messenger": ("SM", "messenger:"),
}
"""Channel -> (how the message's id begins, what stands before its addresses)."""

LIVES = (
    ["sent"],
    ["queued", "sending", "sent", "delivered"],
    ["accepted", "scheduled", "queued", "sent", "delivered", "read"],
    ["accepted", "scheduled", "canceled"],
    ["sent", "undelivered"],
    ["failed"],
    # The carrier's first word is not always its last.
    ["sent", "undelivered", "delivered"],
)
FAILURES = {"undelivered": "30007", "failed": "21614"}
STREAMED = {
    "sent": "sent_at",
    "delivered": "delivered_at",
    "read": "read_at",
    "undelivered": "failed_at",
    "failed": "failed_at",
}
"""What an Event Stream tells, and the column that its time is for: forms of messages have none."""


def tell(author: Author) -> None:
    for channel in author.random.sample(sorted(CHANNELS), 2):
        _chat(author, channel)
    _call(author)
    if author.random.random() < 0.3:
        _conversation(author)


def _callback(author: Author, path: str, event_id: str, **fields: str) -> None:
    """Without an event id it is named by its bytes."""
    pairs = list({"AccountSid": "AC1", "ApiVersion": "2010-04-01", "ToCity": "", **fields}.items())
    author.random.shuffle(pairs)
    body = urlencode(pairs).encode()
    author.tells(
        Webhook(f"/webhooks/twilio{path}", body, lambda url, b, _: signing.twilio(url, b)),
        "twilio",
        event_id or "sha256:" + hashlib.sha256(body).hexdigest(),
    )


def _conversation(author: Author) -> None:
    """Another product of Twilio's tells of a message that our agent wrote: it is none of ours."""
    said = {"MessageSid": author.name("IM"), "ConversationSid": author.name("CH"), "Author": "agent-7", "Body": "stop"}
    for kind in author.random.sample(["onMessageAdded", "onMessageUpdated", "onMessageRemoved"], 2):
        _callback(author, "/conversations", "", EventType=kind, **said)


def _stream(author: Author, events: list[tuple[str, str, datetime]]) -> None:
    """A batch of (message, status, when). Its digest is in the URL, and the URL is what is signed."""
    batch = [(author.name("EZ"), event) for event in events]
    body = json.dumps([_cloud_event(event_id, *event) for event_id, event in batch]).encode()
    path = f"/webhooks/twilio/stream?bodySHA256={hashlib.sha256(body).hexdigest()}"
    author.tells(
        Webhook(path, body, lambda url, _, __: signing.twilio_json(url)), "twilio", *(name for name, _ in batch)
    )


def _cloud_event(event_id: str, message: str, status: str, when: datetime) -> Row:
    return {
        "specversion": "1.0",
        "id": event_id,
        "type": f"com.twilio.messaging.message.{status}",
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {"messageSid": message, "messageStatus": status.upper(), "errorCode": FAILURES.get(status)},
    }


def _chat(author: Author, channel: str) -> None:
    """An id of Messenger keeps its scheme: it is as long as a phone number, and is none."""
    digits, scheme = f"336{author.random.randrange(10**8):08d}", CHANNELS[channel][1]
    customer, ours = (scheme + digits, scheme + OURS[1:]) if channel == "messenger" else (f"+{digits}", OURS)
    _received(author, channel, customer, ours)
    first = _sent(author, channel, customer, ours)
    author.world.expect(
        "conversations",
        ("twilio", channel, ours, customer),
        inbound=1,
        outbound=1,
        last_inbound_at=None,
        last_outbound_at=first,
    )


def _written(channel: str, address: str) -> str:
    scheme = CHANNELS[channel][1]
    return address if address.startswith(scheme) else scheme + address


def _received(author: Author, channel: str, customer: str, ours: str) -> None:
    sid, _ = CHANNELS[channel]
    message, text = author.name(sid), author.random.choice(["Bonjour, c'est Zoé 👋 & co + 100%", "ok", "STOP", ""])
    media = {"NumMedia": "1", "MediaContentType0": "image/jpeg"} if channel == "mms" else {"NumMedia": "0"}
    people = {"From": _written(channel, customer), "To": _written(channel, ours)}
    _callback(author, "/sms", message, MessageSid=message, SmsStatus="received", Body=text, **media, **people)
    author.world.expect(
        "messages",
        ("twilio", message),
        provider="twilio",
        channel=channel,
        direction="inbound",
        sender=customer,
        recipient=ours,
        our_number=ours,
        peer_number=customer,
        kind="image" if channel == "mms" else "text",
        body=text or None,
        status="received",
        error_code=None,
        error_message=None,
        is_opt_out=text == "STOP",
        sent_at=None,
        delivered_at=None,
        read_at=None,
        failed_at=None,
        occurred_at=None,
    )


def _sent(author: Author, channel: str, customer: str, ours: str) -> datetime | None:
    """Returns when it was first heard of, where that is known."""
    sid, _ = CHANNELS[channel]
    message, now, life = author.name(sid), author.moment(), author.random.choice(LIVES)
    people = {"From": _written(channel, ours), "To": _written(channel, customer)}
    for status in life:
        extra = {"ErrorCode": FAILURES[status]} if status in FAILURES else {}
        said = {"MessageSid": message, "MessageStatus": status, "SmsStatus": status}
        _callback(author, "/sms", f"{message}:{status}", **said, **people, **extra)
    is_streamed = author.random.random() < 0.5
    times = {status: at(now + offset) for offset, status in enumerate(life) if status in STREAMED and is_streamed}
    if times:
        _stream(author, [(message, status, when) for status, when in times.items()])
    columns = {STREAMED[status]: when for status, when in times.items()}
    author.world.expect(
        "messages",
        ("twilio", message),
        provider="twilio",
        channel=channel,
        direction="outbound",
        sender=ours,
        recipient=customer,
        our_number=ours,
        peer_number=customer,
        kind=None,
        body=None,
        status=life[-1],
        error_code=FAILURES.get(life[-1]),
        error_message=None,
        is_opt_out=False,
        **{column: columns.get(column) for column in STREAMED.values()},
        occurred_at=min(times.values(), default=None),
    )
    return min(times.values(), default=None)


def _call(author: Author) -> None:
    call, now, customer = author.name("CA"), author.moment(), f"+336{author.random.randrange(10**8):08d}"
    is_inbound = author.random.random() < 0.3
    direction, caller, callee = ("inbound", customer, OURS) if is_inbound else ("outbound", OURS, customer)
    ending = author.random.choice(["completed", "completed", "busy", "no-answer", "failed", "canceled", None])
    seconds = author.random.randrange(1, 600)
    steps = [(author.random.choice(["queued", "initiated"]), 0), ("ringing", 1)]
    if ending == "completed":
        steps.append(("in-progress", 9))
    end = 9 + seconds
    if ending:
        steps.append((ending, end))
    for status, offset in steps:
        extra = {"CallDuration": str(seconds if ending == "completed" else 0)} if status == ending else {}
        when = at(now + offset).strftime("%a, %d %b %Y %H:%M:%S +0000")
        _callback(
            author,
            "/voice",
            f"{call}:{status}",
            CallSid=call,
            CallStatus=status,
            Direction=direction if is_inbound else "outbound-api",
            From=caller,
            To=callee,
            Timestamp=when,
            **extra,
        )
    author.world.expect(
        "calls",
        ("twilio", call),
        provider="twilio",
        direction=direction,
        caller=caller,
        callee=callee,
        status=ending or "ringing",
        started_at=at(now),
        answered_at=at(now + 9) if ending == "completed" else None,
        ended_at=at(now + end) if ending else None,
        duration_seconds=None if ending is None else seconds if ending == "completed" else 0,
        talk_seconds=seconds if ending == "completed" else None,
        end_reason=None,
        recording_url=None,
        summary=None,
        sentiment=None,
    )
