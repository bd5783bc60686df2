"""A customer writes, changes their mind and calls; we answer, also from the phone. All in batches of any cut."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support import signing
from tests.support.story.base import Author, Row, Webhook, at

OURS = "+15550783881"
TEXTS = ("Ça marche 🌊", "ok", "STOP", "demain ?")
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


@dataclass
class Chat:
    """One customer's, with what is still to be delivered: (field, list in it, update, event id)."""

    author: Author
    customer: str
    now: int
    pending: list[tuple[str, str, Row, str]] = field(default_factory=list)
    inbound: list[datetime] = field(default_factory=list)
    outbound: list[datetime] = field(default_factory=list)

    def tells(self, listed: str, update: Row, event_id: str, said_in: str = "messages") -> None:
        self.pending.append((said_in, listed, update, event_id))

    def writes(self, kind: str, content: Row, seconds: int) -> str:
        """Something of the customer's in the form of a message; returns its id."""
        name = self.author.name("wamid.")
        said = {"from": self.customer, "id": name, "timestamp": str(self.now + seconds), "type": kind, kind: content}
        self.tells("messages", said, name)
        return name

    def expect(self, message: str, **columns: Any) -> None:
        """A message between the customer and us, with what is said of it; what is left out is NULL."""
        is_inbound = columns["direction"] == "inbound"
        people = (f"+{self.customer}", OURS) if is_inbound else (OURS, f"+{self.customer}")
        nothing = dict.fromkeys(
            (
                *("kind", "body", "error_code", "error_message", "sent_at", "delivered_at", "read_at", "failed_at"),
                *("edited_at", "revoked_at", "reaction"),
            )
        )
        (self.inbound if is_inbound else self.outbound).append(columns["occurred_at"])
        self.author.world.expect(
            "messages",
            ("whatsapp", message),
            **nothing
            | {"provider": "whatsapp", "channel": "whatsapp", "sender": people[0], "recipient": people[1]}
            | {"our_number": OURS, "peer_number": f"+{self.customer}", "is_opt_out": False}
            | columns,
        )


def tell(author: Author) -> None:
    chat = Chat(author, f"336{author.random.randrange(10**8):08d}", author.moment())
    for number in range(author.random.randrange(1, 4)):
        _received(chat, number)
    _sent(chat)
    if author.random.random() < 0.3:
        _echoed(chat)
    if author.random.random() < 0.3:
        _called(chat)
    if author.random.random() < 0.3:
        _preferred(chat)
    author.world.expect(
        "conversations",
        ("whatsapp", "whatsapp", OURS, f"+{chat.customer}"),
        inbound=len(chat.inbound),
        outbound=len(chat.outbound),
        last_inbound_at=max(chat.inbound),
        last_outbound_at=max(chat.outbound),
    )
    author.random.shuffle(chat.pending)
    while chat.pending:
        count = author.random.randrange(1, len(chat.pending) + 1)
        _deliver(author, chat.pending[:count])
        del chat.pending[:count]


def _received(chat: Chat, number: int) -> None:
    """A message that may be edited once or twice, taken back, and reacted to by its own author."""
    choice, text = chat.author.random.random, chat.author.random.choice(TEXTS)
    message = chat.writes("text", {"body": text}, number)
    texts, columns = [text], {}
    for seconds in (5, 9):
        if choice() < 0.3:
            texts.append(chat.author.random.choice(TEXTS))
            new = {"type": "text", "text": {"body": texts[-1]}}
            chat.writes("edit", {"original_message_id": message, "message": new}, number + seconds)
            columns["edited_at"] = at(chat.now + number + seconds)
    if choice() < 0.2:
        chat.writes("revoke", {"original_message_id": message}, number + 20)
        columns["revoked_at"] = at(chat.now + number + 20)
    columns |= _reaction(chat, message, number + 30)
    chat.expect(
        message,
        direction="inbound",
        kind="text",
        body=texts[-1],
        status="received",
        is_opt_out="STOP" in texts,
        occurred_at=at(chat.now + number),
        **columns,
    )


def _reaction(chat: Chat, message: str, seconds: int) -> Row:
    """The last one counts, until it is taken back."""
    found: Row = {}
    for number in range(chat.author.random.choice([0, 0, 0, 1, 2])):
        emoji = chat.author.random.choice(["👍", "🎉", None])
        said = {"message_id": message} if emoji is None else {"message_id": message, "emoji": emoji}
        chat.writes("reaction", said, seconds + number)
        found["reaction"] = emoji
    return found


def _sent(chat: Chat) -> None:
    message, life, when = chat.author.name("wamid."), chat.author.random.choice(LIVES), at(chat.now + 60)
    for said in life:
        update: Row = {"id": message, "status": said, "timestamp": str(chat.now + 60), "recipient_id": chat.customer}
        if said == "failed":
            update["errors"] = [{"code": 131047, "title": "Re-engagement message"}]
        chat.tells("statuses", update, f"{message}:{said}")
    is_failed = life[-1] == "failed"
    chat.expect(
        message,
        direction="outbound",
        status="read" if life[-1] == "played" else life[-1],
        error_code="131047" if is_failed else None,
        error_message="Re-engagement message" if is_failed else None,
        sent_at=when if "sent" in life else None,
        delivered_at=when if "delivered" in life else None,
        read_at=when if life[-1] in ("read", "played") else None,
        failed_at=when if "failed" in life else None,
        occurred_at=when,
        **_reaction(chat, message, 90),
    )


def _echoed(chat: Chat) -> None:
    """We write on the phone. STOP is no opt-out of ours."""
    message, text, when = chat.author.name("wamid."), chat.author.random.choice(TEXTS), at(chat.now + 120)
    said = {"from": OURS[1:], "to": chat.customer, "id": message, "timestamp": str(chat.now + 120), "type": "text"}
    chat.tells("message_echoes", {**said, "text": {"body": text}}, message, "smb_message_echoes")
    columns: Row = {"kind": "text", "body": text, "status": "sent", "sent_at": when, "occurred_at": when}
    if chat.author.random.random() < 0.3:
        taken_back = chat.author.name("wamid.")
        revoke = {"type": "revoke", "revoke": {"original_message_id": message}, "id": taken_back}
        chat.tells(
            "message_echoes", {**said, **revoke, "timestamp": str(chat.now + 130)}, taken_back, "smb_message_echoes"
        )
        columns["revoked_at"] = at(chat.now + 130)
    chat.expect(message, direction="outbound", **columns)


def _called(chat: Chat) -> None:
    """The customer calls: somebody takes the call, or nobody does."""
    call, start = chat.author.name("wacid."), chat.now + 200
    said = {"id": call, "from": chat.customer, "to": OURS[1:], "direction": "USER_INITIATED"}
    chat.tells("calls", {**said, "event": "connect", "timestamp": str(start)}, f"{call}:connect", "calls")
    seconds = chat.author.random.choice([0, 70])
    talk = {"start_time": str(start + 9), "end_time": str(start + 9 + seconds), "duration": seconds} if seconds else {}
    end = {**said, **talk, "event": "terminate", "status": "COMPLETED", "timestamp": str(start + 9 + seconds)}
    chat.tells("calls", end, f"{call}:terminate", "calls")
    chat.author.world.expect(
        "calls",
        ("whatsapp", call),
        provider="whatsapp",
        direction="inbound",
        caller=f"+{chat.customer}",
        callee=OURS,
        status="completed" if seconds else "missed",
        started_at=at(start),
        answered_at=at(start + 9) if seconds else None,
        ended_at=at(start + 9 + seconds),
        duration_seconds=seconds,
        talk_seconds=seconds or None,
    )


def _preferred(chat: Chat) -> None:
    """The last word on marketing counts. It has no id: what it says is what it is called."""
    words = ["stop", "resume", "stop"][: chat.author.random.randrange(1, 4)]
    for number, word in enumerate(words):
        said = {"wa_id": chat.customer, "category": "marketing_messages", "value": word, "timestamp": chat.now + number}
        named = json.dumps([{"display_phone_number": OURS[1:]}, said], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(named.encode()).hexdigest()
        chat.tells("user_preferences", said, f"user_preferences:{digest}", "user_preferences")
    chat.author.world.expect(
        "contact_preferences",
        ("whatsapp", OURS, f"+{chat.customer}", "marketing_messages"),
        value=words[-1],
        is_opted_out=words[-1] == "stop",
        changed_at=at(chat.now + len(words) - 1),
    )


def _deliver(author: Author, updates: list[tuple[str, str, Row, str]]) -> None:
    """One delivery, with a change for each field."""
    changes: dict[str, Row] = {}
    for said_in, listed, update, _ in updates:
        value = changes.setdefault(
            said_in, {"messaging_product": "whatsapp", "metadata": {"display_phone_number": OURS[1:]}}
        )
        value.setdefault(listed, []).append(update)
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": name, "value": value} for name, value in changes.items()]}],
    }
    # Non-ASCII escaped, as Meta sends it.
    webhook = Webhook("/webhooks/whatsapp", json.dumps(body).encode(), lambda _, b, __: signing.whatsapp(b))
    author.tells(webhook, "whatsapp", *(event_id for *_, event_id in updates))
