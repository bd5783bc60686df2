"""Payloads with something wrong in them: batches whose items are damaged, texts that Postgres does not take."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.support.records import FakeRecord, record

Path = tuple[str | int, ...]


def message(number: int) -> dict[str, Any]:
    return {
        "from": "34600111222",
        "id": f"wamid.{number}",
        "timestamp": "1795950000",
        "type": "text",
        "text": {"body": f"number {number}"},
    }


def contact(number: int) -> dict[str, Any]:
    return {
        "eventId": 100 + number,
        "subscriptionId": 1,
        "portalId": 9,
        "occurredAt": 1_795_950_000_000 + number,
        "subscriptionType": "contact.propertyChange",
        "objectId": 500 + number,
        "propertyName": "firstname",
        "propertyValue": f"number {number}",
    }


def mail(number: int) -> dict[str, Any]:
    return {
        "sg_event_id": f"sg-{number}",
        "sg_message_id": f"m{number}.x",
        "event": "delivered",
        "email": f"n{number}@example.com",
        "timestamp": 1_795_950_000,
    }


def stream_event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "com.twilio.messaging.message.sent",
        "id": f"EZ{number}",
        "time": "2026-11-29T10:00:01.000Z",
        "data": {"messageSid": f"SM{number}", "messageStatus": "sent"},
    }


ITEMS: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "whatsapp": message,
    "hubspot": contact,
    "sendgrid": mail,
    "twilio": stream_event,
}
"""An item of a batch, by its number."""

DAMAGES: Final[dict[str, list[Callable[[dict[str, Any]], Any]]]] = {
    "whatsapp": [
        lambda item: {**item, "id": None},
        lambda item: {**item, "from": 5},
        lambda item: {**item, "text": "not an object"},
    ],
    "hubspot": [
        lambda item: {**item, "eventId": None},
        lambda item: {**item, "objectId": None},
        lambda item: {**item, "occurredAt": "soon"},
        lambda item: {**item, "subscriptionType": None},
    ],
    "sendgrid": [
        lambda item: {**item, "email": ["x"]},
        lambda item: {**item, "sg_message_id": 5},
    ],
    "twilio": [
        lambda item: {**item, "id": None},
        lambda item: {**item, "data": None},
        lambda item: {**item, "data": {"messageSid": "SM"}},
    ],
}
"""What makes an item unreadable, beside `NO_ITEMS`."""

NO_ITEMS: Final[list[Any]] = [None, 5, "text", [], [[]], True, 1.5]
"""In the place of an item."""


def batch_of(provider: str, items: list[Any]) -> bytes:
    if provider != "whatsapp":
        return json.dumps(items).encode()
    value = {"metadata": {"display_phone_number": "15550100100"}, "messages": items}
    changes = [{"field": "messages", "value": value}]
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}).encode()


def batch_record(provider: str, items: list[Any], offset: int = 0, topic: str = "") -> FakeRecord:
    return record(topic or f"webhooks.{provider}", provider, batch_of(provider, items), offset)


def texts(node: Any, path: Path = ()) -> Iterator[Path]:
    """Where a text is; of a list the first two items stand for all."""
    if isinstance(node, dict):
        for name, item in node.items():
            yield from texts(item, (*path, name))
    elif isinstance(node, list):
        for place, item in enumerate(node[:2]):
            yield from texts(item, (*path, place))
    elif isinstance(node, str):
        yield path


def appended(node: Any, path: Path, text: str) -> Any:
    """With more behind the text that is there."""
    if not path:
        return node + text
    first, rest = path[0], path[1:]
    if isinstance(node, dict):
        return {name: appended(item, rest, text) if name == first else item for name, item in node.items()}
    return [appended(item, rest, text) if place == first else item for place, item in enumerate(node)]
