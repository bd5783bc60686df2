"""E-mails arrive, are read or bounce; their events come in batches of any cut, some of them again in another one."""

import json

from tests.support import signing_sendgrid as signing
from tests.support.story.base import Author, Row, Webhook, at

LIVES = (
    ["processed", "delivered"],
    ["processed", "delivered", "open", "click", "open"],
    ["processed", "deferred", "deferred", "delivered"],
    ["deferred"],
    ["processed", "bounce"],
    ["processed", "blocked"],
    # A server may take a message, scan it, and send it back later: it came back in the end.
    ["processed", "delivered", "bounce"],
    ["processed", "delivered", "click", "blocked"],
    # Statuses without the message that they are about.
    ["dropped"],
    ["delivered"],
    ["click"],
)
RANKS = ("deferred", "processed", "dropped", "delivered", "click", "open", "blocked", "bounce")
BECOMES = {
    "processed": "sent",
    "deferred": "sending",
    "dropped": "failed",
    "blocked": "failed",
    "bounce": "failed",
    "delivered": "delivered",
    "open": "read",
    "click": "read",
}
FAILURES: dict[str, Row] = {
    "dropped": {"reason": "Bounced Address", "status": "5.0.0"},
    "bounce": {"type": "bounce", "reason": "550 5.1.1 The account does not exist", "status": "5.1.1"},
    "blocked": {"type": "blocked", "reason": "421 Try again later"},
}
CODES = {"dropped": "5.0.0", "bounce": "5.1.1", "blocked": "blocked"}

Told = tuple[str, Row]
"""(event id, event)."""


def tell(author: Author) -> None:
    told: list[Told] = []
    for _ in range(author.random.randrange(1, 4)):
        told += _message(author)
    _deliver(author, told)


def _message(author: Author) -> list[Told]:
    """One e-mail's events, each at its own second."""
    message_id, now = author.name("LRzXl_NHStOGhQ4-"), author.moment()
    email = f"{author.name('zoe')}@example.com"
    life = author.random.choice(LIVES)
    times: dict[str, int] = {}
    told = []
    for offset, kind in enumerate(life):
        times.setdefault(kind, now + offset)
        event: Row = {
            "email": email,
            "event": "bounce" if kind == "blocked" else kind,
            "timestamp": now + offset,
            "sg_message_id": f"{message_id}.filterdrecv-p3mdw1-{kind}-18-5F5FC76C-9.0",
            "tenant_id": "ten_1",
            **FAILURES.get(kind, {}),
        }
        if kind == "open":
            event["sg_machine_open"] = False
        told.append(_named(author, event))
    end = max(life, key=RANKS.index)
    failure = next((kind for kind in life if kind in FAILURES), None)
    reads = [times[kind] for kind in ("open", "click") if kind in times]
    author.world.expect(
        "messages",
        ("sendgrid", message_id),
        provider="sendgrid",
        channel="email",
        direction="outbound",
        sender=None,
        recipient=email,
        our_number=None,
        peer_number=None,
        kind=None,
        body=None,
        status=BECOMES[end],
        error_code=CODES.get(end),
        error_message=FAILURES[end]["reason"] if end in FAILURES else None,
        is_opt_out=False,
        sent_at=at(times["processed"]) if "processed" in times else None,
        delivered_at=at(times["delivered"]) if "delivered" in times else None,
        read_at=at(min(reads)) if reads else None,
        failed_at=at(times[failure]) if failure else None,
        occurred_at=at(now),
    )
    return told


def _named(author: Author, event: Row) -> Told:
    """Not every event has an id of its own: without one it is its message, its kind and its time."""
    if author.random.random() < 0.3:
        return f"{event['sg_message_id']}:{event['event']}:{event['timestamp']}", event
    event_id = author.name("ZGVsaXZlcmVk")
    return event_id, {**event, "sg_event_id": event_id}


def _deliver(author: Author, told: list[Told]) -> None:
    """In batches cut at random; what came in one may come again in another, with other company."""
    pending = told + author.random.sample(told, author.random.randrange(len(told)))
    author.random.shuffle(pending)
    while pending:
        count = author.random.randrange(1, len(pending) + 1)
        batch, pending = pending[:count], pending[count:]
        # The CRLF at the end is signed like every other byte.
        body = json.dumps([event for _, event in batch], separators=(",", ":")).encode() + b"\r\n"
        webhook = Webhook("/webhooks/sendgrid", body, lambda _, b, now: signing.sendgrid(b, now))
        author.tells(webhook, "sendgrid", *(event_id for event_id, _ in batch))
