"""A customer writes, and our answer goes through its statuses, in batches of any cut."""

import json

from tests.support import signing
from tests.support.story.base import Author, Row, Webhook, at

OURS = "+15550783881"
LIVES = (
    ["sent"],
    ["sent", "delivered"],
    ["sent", "delivered", "read"],
    # A voice message is played: that is its way of being read, whether or not it was read before.
    ["sent", "delivered", "played"],
    ["delivered", "read", "played"],
    ["sent", "failed"],
    ["failed"],
    # It did arrive after all: the error goes with the status that it belongs to.
    ["failed", "delivered"],
)


def _delivery(author: Author, updates: list[tuple[str, Row]]) -> None:
    """One delivery with one or several updates."""
    ids: list[str] = []
    value: Row = {"messaging_product": "whatsapp", "metadata": {"display_phone_number": OURS[1:]}}
    for kind, update in updates:
        value.setdefault(kind, []).append(update)
        ids.append(update["id"] if kind == "messages" else f"{update['id']}:{update['status']}")
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
    }
    # Non-ASCII escaped, as Meta sends it.
    webhook = Webhook("/webhooks/whatsapp", json.dumps(body).encode(), lambda _, b, __: signing.whatsapp(b))
    author.tells(webhook, "whatsapp", *ids)


def tell(author: Author) -> None:
    customer, now = f"336{author.random.randrange(10**8):08d}", author.moment()
    pending: list[tuple[str, Row]] = []
    inbound = author.random.randrange(1, 4)
    for number in range(inbound):
        message, text = author.name("wamid."), author.random.choice(["Ça marche 🌊", "ok", "STOP", "demain ?"])
        pending.append(
            (
                "messages",
                {
                    "from": customer,
                    "id": message,
                    "timestamp": str(now + number),
                    "type": "text",
                    "text": {"body": text},
                },
            )
        )
        author.world.expect(
            "messages",
            ("whatsapp", message),
            provider="whatsapp",
            channel="whatsapp",
            direction="inbound",
            sender=f"+{customer}",
            recipient=OURS,
            our_number=OURS,
            peer_number=f"+{customer}",
            kind="text",
            body=text,
            status="received",
            error_code=None,
            error_message=None,
            is_opt_out=text == "STOP",
            sent_at=None,
            delivered_at=None,
            read_at=None,
            failed_at=None,
            occurred_at=at(now + number),
        )
    outbound = author.name("wamid.")
    life = author.random.choice(LIVES)
    for status in life:
        update: Row = {"id": outbound, "status": status, "timestamp": str(now + 60), "recipient_id": customer}
        if status == "failed":
            update["errors"] = [{"code": 131047, "title": "Re-engagement message"}]
        pending.append(("statuses", update))
    when, is_failed = at(now + 60), life[-1] == "failed"
    author.world.expect(
        "messages",
        ("whatsapp", outbound),
        provider="whatsapp",
        channel="whatsapp",
        direction="outbound",
        sender=OURS,
        recipient=f"+{customer}",
        our_number=OURS,
        peer_number=f"+{customer}",
        kind=None,
        body=None,
        status="read" if life[-1] == "played" else life[-1],
        error_code="131047" if is_failed else None,
        error_message="Re-engagement message" if is_failed else None,
        is_opt_out=False,
        sent_at=when if "sent" in life else None,
        delivered_at=when if "delivered" in life else None,
        read_at=when if life[-1] in ("read", "played") else None,
        failed_at=when if "failed" in life else None,
        occurred_at=when,
    )
    author.world.expect(
        "conversations",
        ("whatsapp", "whatsapp", OURS, f"+{customer}"),
        inbound=inbound,
        outbound=1,
        last_inbound_at=at(now + inbound - 1),
        last_outbound_at=when,
    )
    author.random.shuffle(pending)
    while pending:
        count = author.random.randrange(1, len(pending) + 1)
        _delivery(author, pending[:count])
        del pending[:count]
