"""An SMS comes in, one goes out, and a call is made."""

from urllib.parse import urlencode

from tests.support import signing
from tests.support.story.base import Author, Webhook, at


def tell(author: Author) -> None:
    _chat(author)
    _call(author)


def _callback(author: Author, path: str, event_id: str, **fields: str) -> None:
    pairs = list({"AccountSid": "AC1", "ApiVersion": "2010-04-01", "ToCity": "", **fields}.items())
    author.random.shuffle(pairs)
    body = urlencode(pairs).encode()
    author.tells(Webhook(f"/webhooks/twilio{path}", body, lambda url, b, _: signing.twilio(url, b)), "twilio", event_id)


def _chat(author: Author) -> None:
    ours, customer = "+33644601234", f"+336{author.random.randrange(10**8):08d}"
    inbound, text = author.name("SM"), "Bonjour, c'est Zoé 👋 & co + 100%"
    _callback(author, "/sms", inbound, MessageSid=inbound, SmsStatus="received", From=customer, To=ours, Body=text)
    author.world.expect(
        "messages",
        ("twilio", inbound),
        channel="sms",
        direction="inbound",
        sender=customer,
        recipient=ours,
        kind="text",
        body=text,
        status="received",
        error_code=None,
        sent_at=None,
        occurred_at=None,
    )
    outbound = author.name("SM")
    life = author.random.choice([["queued", "sent", "delivered"], ["sent", "undelivered"], ["failed"], ["sent"]])
    failure = {"undelivered": "30007", "failed": "21614"}.get(life[-1])
    for status in life:
        extra = {"ErrorCode": failure} if failure and status == life[-1] else {}
        _callback(
            author,
            "/sms",
            f"{outbound}:{status}",
            MessageSid=outbound,
            MessageStatus=status,
            SmsStatus=status,
            From=ours,
            To=customer,
            **extra,
        )
    author.world.expect(
        "messages",
        ("twilio", outbound),
        channel="sms",
        direction="outbound",
        sender=ours,
        recipient=customer,
        body=None,
        status=life[-1],
        error_code=failure,
        delivered_at=None,
    )
    author.world.expect(
        "conversations",
        ("twilio", "sms", ours, customer),
        inbound=1,
        outbound=1,
        last_inbound_at=None,
    )


def _call(author: Author) -> None:
    call, now = author.name("CA"), author.moment()
    ending = author.random.choice(["completed", "busy", "no-answer", None])
    seconds = author.random.randrange(1, 600)
    steps = [("initiated", 0), ("ringing", 1)]
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
            Direction="outbound-api",
            From="+33644601234",
            To="+33612345678",
            Timestamp=when,
            **extra,
        )
    author.world.expect(
        "calls",
        ("twilio", call),
        direction="outbound",
        caller="+33644601234",
        callee="+33612345678",
        status=ending or "ringing",
        started_at=at(now),
        answered_at=at(now + 9) if ending == "completed" else None,
        ended_at=at(now + end) if ending else None,
        duration_seconds=None if ending is None else seconds if ending == "completed" else 0,
        talk_seconds=seconds if ending == "completed" else None,
    )
