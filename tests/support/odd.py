"""Odd deliveries, made of fixtures by a seed: what a provider, or whoever holds its secret, may one day send.

Each holds one event in which something is missing, null, of another type, doubled, huge or odd text. Deliveries of
providers that send several events at once hold good ones around it, and say which rows those have.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.fuzz.request import Request
from tests.fuzz.signing import signed
from tests.fuzz.targets import fixtures

ODD_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "a\udfffb", "\U0001f600", "é\u0301", "\u202e+33612345678", "٣٣٦١٢", "null", "{}", "%00", "a:b", "\n",
    "0", "-1", "+", "+1", "0033612345678", "messenger:998877665544332", "rcs:agent", "whatsapp:+33612345678", "sip:+33612345678@h", "68849",
    "STOP", "2026-13-45T99:99:99Z", "2016-12-31T23:59:60Z", "credit_purchase", "succeeded", "'; DROP TABLE messages; --",
)  # fmt: skip
HUGE: tuple[Any, ...] = (
    "x" * 100_000,
    "9" * 5000,
    10**30,
    -(10**30),
    2**63,
    1e308,
    [0] * 5000,
    {str(n): n for n in range(2000)},
)
OTHER_TYPES: tuple[Any, ...] = (True, False, 0, -1, 1.5, "text", [], {}, [None], {"id": None}, ["a"], {"a": {"b": []}})
KINDS = ("missing", "null", "another type", "doubled", "huge", "odd text")

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Odd:
    """A signed delivery. `siblings` are the keys of its good events' rows: (table, key column, value)."""

    kind: str
    request: Request
    siblings: tuple[tuple[str, str, str], ...] = ()


def deliveries(name: str, count: int, seed: int) -> Iterator[Odd]:
    """So many; the same for the same seed."""
    random = Random(f"{seed}/{name}")
    for number in range(count):
        found = random.choice(fixtures(name))
        around = AROUND.get(name)
        if around is not None and found.body[:1] in (b"[", b"{"):
            kind, request, siblings = around(found, random, f"{seed}x{number}")
        elif name == "stripe" and random.random() < 0.5:
            kind, request, siblings = _purchase(found, random, f"{seed}x{number}")
        else:
            kind, request = _changed(found, random)
            siblings = ()
        yield Odd(kind, signed(name, request), siblings)


def _changed(request: Request, random: Random) -> tuple[str, Request]:
    if not request.body:
        return _changed_headers(request, random)
    if request.body[:1] not in (b"[", b"{"):
        return _changed_form(request, random)
    kind, document = change(json.loads(request.body), random)
    return kind, replace(request, body=spelled(document, kind, random))


def change(document: Any, random: Random, times: int = 0) -> tuple[str, Any]:
    """One thing in it, or some, is another; at any depth."""
    document, kind = deepcopy(document), random.choice(KINDS)
    for _ in range(times or random.choice((1, 1, 1, 2, 5))):
        places = list(_places(document))
        if not places:
            break
        path = random.choice(places)
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        last = path[-1]
        if kind == "missing":
            del parent[last]
        elif kind == "doubled" and isinstance(parent, list):
            parent.insert(last, deepcopy(parent[last]))
        elif kind != "doubled":
            parent[last] = _value(kind, random)
    return kind, document


def _value(kind: str, random: Random) -> Any:
    match kind:
        case "null":
            return None
        case "huge":
            return deepcopy(random.choice(HUGE))
        case "odd text":
            return random.choice(ODD_TEXTS)
        case _:
            return deepcopy(random.choice(OTHER_TYPES))


def _places(node: Any, path: Path = ()) -> Iterator[Path]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, value in items:
        yield (*path, step)
        yield from _places(value, (*path, step))


def spelled(document: Any, kind: str, random: Random) -> bytes:
    """As JSON; lone surrogates and U+0000 as escapes, some texts as raw UTF-8, and a doubled key as JSON allows it."""
    text = json.dumps(document)
    if kind == "doubled" and text.startswith("{") and len(text) > 2:
        name = random.choice(list(document))
        text = text[:-1] + f", {json.dumps(name)}: {json.dumps(document[name])}}}"
    elif random.random() < 0.5:
        raw = json.dumps(document, ensure_ascii=False)
        text = raw if not any("\ud800" <= c <= "\udfff" for c in raw) else text
    return text.encode()


def _changed_form(request: Request, random: Random) -> tuple[str, Request]:
    pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
    kind = random.choice(KINDS)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(pairs))
        if kind == "missing" and len(pairs) > 1:
            del pairs[at]
        elif kind == "doubled":
            pairs.insert(random.randrange(len(pairs)), (pairs[at][0], random.choice((pairs[at][1], "other"))))
        else:
            odd = {"huge": "x" * 100_000, "null": "", "another type": "[object Object]"}
            pairs[at] = (pairs[at][0], odd.get(kind) or random.choice(ODD_TEXTS))
    return kind, replace(request, body=urlencode(pairs, errors="surrogatepass").encode())


def _changed_headers(request: Request, random: Random) -> tuple[str, Request]:
    """Google's notifications are their headers."""
    kind, headers = random.choice(("missing", "huge", "odd text")), dict(request.headers)
    name = random.choice([one for one in headers if one.startswith("x-goog") and "token" not in one])
    if kind == "missing":
        del headers[name]
    else:
        headers[name] = "9" * 4000 if kind == "huge" else random.choice(("é", "-1", "a:b", "0x10", " ", "%00"))
    return kind, replace(request, headers=headers)


Siblings = tuple[tuple[str, str, str], ...]


def _purchase(request: Request, random: Random, mark: str) -> tuple[str, Request, Siblings]:
    """Credits that were paid for, of which the intent says something odd: whose they are, how many, for what."""
    intent = {
        "id": f"pi_{mark}", "object": "payment_intent", "status": "succeeded", "amount": 4900, "currency": "eur",
        "customer": f"cus_{mark}", "metadata": {"type": "credit_purchase", "credits": "100"},
    }  # fmt: skip
    kind, intent = change(intent, random)
    event = {"id": f"evt_{mark}", "type": "payment_intent.succeeded", "created": 1750000000, "data": {"object": intent}}
    return kind, replace(request, body=json.dumps(event).encode()), ()


def _around_whatsapp(request: Request, random: Random, mark: str) -> tuple[str, Request, Siblings]:
    """Good messages in the same list, in another change, and in another entry."""

    def message(place: str) -> dict[str, Any]:
        return {"from": "33698765432", "id": f"wamid.good{mark}{place}==", "timestamp": "1750000000", "type": "text", "text": {"body": "ok"}}  # fmt: skip

    def value(*messages: Any) -> dict[str, Any]:
        return {"messaging_product": "whatsapp", "metadata": {"display_phone_number": "15550100100"}, "messages": list(messages)}  # fmt: skip

    entry = json.loads(request.body)["entry"][0]
    kind = random.choice(KINDS)
    lists = [
        change["value"][name]
        for change in entry["changes"]
        for name in ("messages", "statuses")
        if isinstance(change.get("value"), dict) and isinstance(change["value"].get(name), list)
    ]
    places, goods = [], []
    for found in lists[:1] if random.random() < 0.7 else ():
        at = random.randrange(len(found))
        kind, found[at] = _odd_item(found[at], random)
        if found is not lists[0] or "from" in json.dumps(found):
            found.insert(random.randrange(len(found) + 1), message("a"))
            goods.append("a")
        places.append(at)
    if not places:
        kind, entry = _odd_item(entry, random)
    entries: list[Any] = [entry, {"id": "1", "changes": [{"field": "messages", "value": value(message("b"))}]}]
    goods.append("b")
    if isinstance(entry, dict) and isinstance(entry.get("changes"), list):
        entry["changes"].insert(0, {"field": "messages", "value": value(message("c"))})
        goods.append("c")
    random.shuffle(entries)
    body = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
    siblings = tuple(("messages", "message_id", f"wamid.good{mark}{place}==") for place in goods)
    return kind, replace(request, body=body), siblings


def _odd_item(item: Any, random: Random) -> tuple[str, Any]:
    """An event changed inside, or as a whole something else."""
    if random.random() < 0.15:
        kind = random.choice(("null", "another type", "huge", "odd text"))
        return kind, _value(kind, random)
    return change(item, random)


def _in_list(good: Callable[[str], dict[str, Any]], row: tuple[str, str], name_of: Callable[[str], str]) -> Any:
    """For bodies that are a list of events."""

    def around(request: Request, random: Random, mark: str) -> tuple[str, Request, Siblings]:
        found = json.loads(request.body)
        events = found if isinstance(found, list) else [found]
        at = random.randrange(len(events))
        kind, events[at] = _odd_item(events[at], random)
        marks = [f"{mark}{place}" for place in "ab"]
        events.insert(0, good(marks[0]))
        events.append(good(marks[1]))
        body = json.dumps(events).encode()
        return kind, replace(request, body=body), tuple((*row, name_of(one)) for one in marks)

    return around


def _number_of(mark: str) -> str:
    return str(int.from_bytes(mark.encode()) % 10**12)


AROUND: dict[str, Callable[[Request, Random, str], tuple[str, Request, Siblings]]] = {
    "whatsapp": _around_whatsapp,
    "hubspot": _in_list(
        lambda mark: {
            "eventId": int(_number_of(mark)), "subscriptionId": 7, "portalId": 62515, "occurredAt": 1750000000000,
            "subscriptionType": "contact.propertyChange", "objectId": int(_number_of(mark)), "propertyName": "city",
            "propertyValue": "Paris", "attemptNumber": 0,
        },
        ("crm_objects", "object_id"),
        _number_of,
    ),
    "sendgrid": _in_list(
        lambda mark: {
            "email": "ok@example.com", "timestamp": 1750000000, "event": "delivered", "sg_event_id": f"good-{mark}",
            "sg_message_id": f"good{mark}.recvd-1",
        },
        ("messages", "message_id"),
        lambda mark: f"good{mark}",
    ),
    "twilio": _in_list(
        lambda mark: {
            "specversion": "1.0", "type": "com.twilio.messaging.message.sent", "id": f"EZ{mark}", "time": "2026-01-01T00:00:00Z",
            "data": {"messageSid": f"SMgood{mark}", "messageStatus": "SENT"},
        },
        ("messages", "message_id"),
        lambda mark: f"SMgood{mark}",
    ),
}  # fmt: skip
"""What puts good events around an odd one, where a delivery may hold several."""


def leaves(request: Request) -> list[str]:
    """Every text and number of a delivery, as text; of GET and forms the values."""
    try:
        return list(_leaves(json.loads(request.body)))
    except ValueError:
        text = request.body.decode("utf-8", "replace")
        return [value for _, value in parse_qsl(text, keep_blank_values=True, errors="replace")]


def _leaves(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _leaves(item)
    elif isinstance(node, str):
        yield node
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield str(node)
