"""WhatsApp messages and their statuses, calls, preferences; one record may hold up to a thousand of them. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from processors.projections.addresses import whatsapp_number
from processors.projections.base import NO_MESSAGE, UNKNOWN_STATUS, Event, project_each
from processors.projections.content import ABOUT_ANOTHER, has_text, says_stop, text_of
from processors.projections.whatsapp_calls import project_call, project_call_status
from schemas.contact_facts import ContactPreference
from schemas.envelope import Record
from schemas.facts import CALLS, CONTACT_PREFERENCES, MESSAGES, Message
from schemas.lattice import Version
from schemas.providers.base import Payload, Unparsable, require_text, time_of_seconds
from schemas.providers.whatsapp import WhatsAppItem, display_phone_number, item_event_id, item_type, items
from schemas.providers.whatsapp_models import UserPreference, WhatsAppMessage, WhatsAppStatus, error_of
from schemas.short_cache import cache_short

VERSION: Final = 2
WRITES: Final = (CALLS, CONTACT_PREFERENCES, MESSAGES)

_STATUSES: Final = {"sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed"}
_HISTORY_STATUSES: Final = {**_STATUSES, "pending": "sending", "error": "failed"}
_FILLED_IN_LATER: Final = "media_placeholder"
"""The type that a message of the history has until its media comes."""

_UNREAD: Final = frozenset({"entry", "other_status"})

_OUR_REACTION: Final = "a reaction of our own: only the other side's are shown"


def project(record: Record, payload: Payload) -> Iterator[Event]:
    return project_each(record, items(payload), _project_item, _identify, _unread_type)


@cache_short(entries=1024, characters=64)
def _our_number(display_phone_number: str) -> str | None:
    """A batch repeats it in every event."""
    return whatsapp_number(display_phone_number)


def _identify(item: WhatsAppItem) -> tuple[str, str]:
    """(event id, type)."""
    return item_event_id(item), item_type(item)


def _unread_type(item: WhatsAppItem) -> str | None:
    """A change is digested for its id, and may be nested too deep for that. Only an object has an id."""
    is_unread = item.kind in _UNREAD or (item.kind == "change" and isinstance(item.data, dict))
    return item_type(item) if is_unread else None


def _project_item(record: Record, item: WhatsAppItem) -> Event:
    name, kind = _identify(item)
    if item.kind == "change" or item.kind in _UNREAD:
        return Event(name, kind, None)
    our_number = _our_number(display_phone_number(item) or "")
    return _RULES[item.kind](record.source, our_number, item, name, kind)


def _message(source: str, our_number: str | None, item: WhatsAppItem, name: str, kind: str) -> Event:
    """A message of the other side, or of our own: an echo of the phone, or in the history one from our number."""
    found = WhatsAppMessage.model_validate(item.data)
    sender, at = whatsapp_number(found.sender), time_of_seconds(found.timestamp)
    is_ours = item.kind == "echo" or (sender is not None and sender == our_number)
    is_ours = is_ours or (item.kind == "history" and _is_ours_in_history(found, sender, item.thread))
    our_number = our_number or (sender if is_ours else None)
    if found.type in ABOUT_ANOTHER:
        return _about_another(source, item.data, Event(name, kind, at), is_ours)
    if found.type == "unsupported" and _unsupported_type(item.data) in ABOUT_ANOTHER:
        return Event(name, kind, at, error=NO_MESSAGE)
    their_number = whatsapp_number(found.to or item.thread) if is_ours else sender
    status = _status_of_ours(found) if is_ours else "received"
    code, text = error_of(found.if_readable("errors") or ())
    fact = Message(
        # A message without a time yields to one with a time: the placeholder to its media.
        version=Version(None if found.type == _FILLED_IN_LATER else at, 0, name),
        source=source,
        message_id=found.id,
        provider="whatsapp",
        channel="whatsapp",
        direction="outbound" if is_ours else "inbound",
        sender=our_number if is_ours else sender,
        recipient=their_number if is_ours else our_number,
        our_number=our_number,
        # The conversation of a group is the group's: its members write to each other, not to us alone.
        peer_number=found.if_readable("group_id") or their_number,
        kind=found.type,
        body=text_of(item.data),
        status=status,
        error_code=code,
        error_message=text,
        is_opt_out=not is_ours and says_stop(item.data),
        sent_at=at if is_ours and status not in ("sending", "failed") else None,
        occurred_at=at,
    )
    return Event(name, kind, at, (fact,))


def _is_ours_in_history(found: WhatsAppMessage, sender: str | None, thread: Any) -> bool:
    """Its own mark; else its receiver, which only a message of ours names, or whether its sender is not the chat's."""
    context = found.if_readable("history_context")
    said = context.if_readable("from_me") if context else None
    if said is not None:
        return bool(said)
    other = whatsapp_number(thread) if isinstance(thread, str) else None
    is_chat_of_two = other is not None and sender is not None and other.startswith("+") and sender.startswith("+")
    return bool(found.to) or (is_chat_of_two and sender != other)


def _status_of_ours(message: WhatsAppMessage) -> str:
    said = message.history_context.status if message.history_context else None
    return _HISTORY_STATUSES.get((said or "").lower(), "sent")


def _unsupported_type(data: dict[str, Any]) -> Any:
    """The type of a message that Meta does not pass on: a poll, or a change of another message."""
    content = data.get("unsupported")
    return content.get("type") if isinstance(content, dict) else None


def _about_another(source: str, data: dict[str, Any], event: Event, is_ours: bool) -> Event:
    """A fact about another message goes into that message's row, and creates the row if the message has not come yet.

    A change of somebody's number is about no message: it is indexed, and no more.
    """
    kind = data["type"]
    if kind not in _ABOUT:
        return event if kind == "system" else replace(event, error=NO_MESSAGE)
    if kind == "reaction" and is_ours:
        return replace(event, error=_OUR_REACTION)
    content = data.get(kind)
    if not isinstance(content, dict):
        raise Unparsable(f"{kind}: expected an object that names the other message")
    if event.occurred_at is None:
        raise Unparsable("timestamp: expected Unix seconds")
    about = "message_id" if kind == "reaction" else "original_message_id"
    fact = Message(
        version=Version(event.occurred_at, 0, event.event_id),
        source=source,
        message_id=require_text(content.get(about), f"{kind}.{about}"),
        channel="whatsapp",
    )
    return replace(event, facts=(_ABOUT[kind](fact, content, event.occurred_at, is_ours),))


def _edit(fact: Message, content: dict[str, Any], at: datetime, is_ours: bool) -> Message:
    """A STOP is one also as the second thought, and stays one whatever is made of it later."""
    new = content.get("message")
    if not isinstance(new, dict) or not has_text(new):
        return replace(fact, edited_at=at, is_opt_out=False)
    said_stop = not is_ours and says_stop(new)
    return replace(fact, edited_body=text_of(new) or "", edited_at=at, is_opt_out=said_stop)


def _revoke(fact: Message, content: dict[str, Any], at: datetime, is_ours: bool) -> Message:
    return replace(fact, revoked_at=at)


def _reaction(fact: Message, content: dict[str, Any], at: datetime, is_ours: bool) -> Message:
    """Without an emoji it is taken back."""
    emoji = content.get("emoji")
    return replace(fact, reaction=emoji if isinstance(emoji, str) else "", reacted_at=at)


_ABOUT: Final[dict[str, Callable[[Message, dict[str, Any], datetime, bool], Message]]] = {
    "edit": _edit,
    "revoke": _revoke,
    "reaction": _reaction,
}


def _status(source: str, our_number: str | None, item: WhatsAppItem, name: str, kind: str) -> Event:
    """A message to a group has statuses of each of its members: the furthest of any is the message's."""
    found = WhatsAppStatus.model_validate(item.data)
    at = time_of_seconds(found.timestamp)
    status = _STATUSES.get(found.status)
    if status is None:
        return Event(name, kind, at, error=UNKNOWN_STATUS)
    is_group = found.recipient_type == "group"
    recipient = (found.recipient_id or None) if is_group else whatsapp_number(found.recipient_id)
    code, text = error_of(found.errors if status == "failed" else found.if_readable("errors") or ())
    fact = Message(
        version=Version(at, 0, name),
        source=source,
        message_id=found.id,
        provider="whatsapp",
        channel="whatsapp",
        direction="outbound",
        sender=our_number,
        recipient=recipient,
        our_number=our_number,
        peer_number=recipient,
        status=status,
        error_code=code,
        error_message=text,
        occurred_at=at,
        sent_at=at if status == "sent" else None,
        delivered_at=at if status == "delivered" else None,
        read_at=at if status == "read" else None,
        failed_at=at if status == "failed" else None,
    )
    return Event(name, kind, at, (fact,))


def _preference(source: str, our_number: str | None, item: WhatsAppItem, name: str, kind: str) -> Event:
    found = UserPreference.model_validate(item.data)
    at, peer = time_of_seconds(found.timestamp), whatsapp_number(found.wa_id) or found.user_id
    if our_number is None:
        raise Unparsable("metadata.display_phone_number: expected our number")
    if not peer:
        raise Unparsable("user_preferences[]: expected wa_id or user_id")
    fact = ContactPreference(
        version=Version(at, 0, name),
        source=source,
        our_number=our_number,
        peer_number=peer,
        category=found.category,
        value=found.value,
        changed_at=at,
    )
    return Event(name, kind, at, (fact,))


_RULES: Final[dict[str, Callable[[str, str | None, WhatsAppItem, str, str], Event]]] = {
    "message": _message,
    "echo": _message,
    "history": _message,
    "status": _status,
    "call": project_call,
    "call_status": project_call_status,
    "preference": _preference,
}
