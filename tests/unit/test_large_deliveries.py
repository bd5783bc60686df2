"""What one delivery can cost is bounded (invariant 9): how many events it holds, and what their rows come to."""

import json
import re
from collections.abc import Callable
from typing import Any, Final, get_type_hints

import pytest

from processors.fold import fold_record
from processors.rows import MAX_ROWS_SIZE, largest_of, portions, size_of
from schemas.providers.batches import MAX_EVENTS
from schemas.providers.models import MAX_LISTED, Model
from tests.support.damage import contact
from tests.support.folding import letter_of
from tests.support.records import FakeRecord, record, stripe_event


def packed(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def whatsapp(**value: Any) -> bytes:
    return packed({"entry": [{"changes": [{"field": "messages", "value": value}]}]})


def delivered(provider: str, body: bytes) -> FakeRecord:
    return record(f"webhooks.{provider}", provider, body)


TOO_MANY: Final[dict[str, tuple[str, Callable[[int], bytes]]]] = {
    "hubspot": ("hubspot", lambda count: packed([0] * count)),
    "sendgrid": ("sendgrid", lambda count: packed([{}] * count)),
    "twilio": ("twilio", lambda count: packed([{}] * count)),
    "whatsapp: entries": ("whatsapp", lambda count: packed({"entry": [0] * count})),
    "whatsapp: changes": ("whatsapp", lambda count: packed({"entry": [{"changes": [{}] * count}]})),
    "whatsapp: statuses": ("whatsapp", lambda count: whatsapp(statuses=[{}] * count)),
    "whatsapp: a history": ("whatsapp", lambda count: whatsapp(history=[{"threads": [{"messages": [{}] * count}]}])),
}
"""(provider, a body of so many events)."""


@pytest.mark.parametrize("name", TOO_MANY)
def test_a_delivery_of_too_many_events_is_one_dead_record_under_its_bytes(name: str) -> None:
    provider, body = TOO_MANY[name]
    one = delivered(provider, body(MAX_EVENTS + 1))
    letter = letter_of(one)
    assert letter.message == "the body: more than 20,000 events; expected at most so many in one delivery"
    assert (letter.ordinal, (one.key or b"")[:7]) == (0, b"sha256:")


def test_as_many_events_as_are_allowed_are_events() -> None:
    folded = fold_record(delivered("sendgrid", packed([{}] * MAX_EVENTS)))
    assert (len(folded.events), len(folded.letters)) == (MAX_EVENTS, 0)


def refunds(found: list[Any]) -> bytes:
    charge = {"id": "ch_1", "payment_intent": "pi_1", "status": "succeeded", "refunds": {"data": found}}
    return stripe_event("evt_1", "charge.refunded", charge)


def merged(ids: list[int], number: str = "1") -> bytes:
    return packed(
        [{**contact(1), "subscriptionType": "contact.merge", "eventId": number, "primaryObjectId": 1,
          "mergedObjectIds": ids}]
    )  # fmt: skip


def test_a_list_inside_an_event_is_counted_before_it_is_read() -> None:
    for body, provider in ((refunds([0] * (MAX_LISTED + 1)), "stripe"), (merged([5] * (MAX_LISTED + 1)), "hubspot")):
        assert "more than 1,000 of them" in letter_of(delivered(provider, body)).message
    assert not fold_record(delivered("hubspot", merged([5] * MAX_LISTED))).letters


def test_every_list_of_every_payload_is_bounded() -> None:
    models: list[type[Model]] = [Model]
    lists: dict[str, str] = {}
    for model in models:
        models += model.__subclasses__()
        hints = get_type_hints(model, include_extras=True)
        lists |= {
            f"{model.__name__}.{name}": str(hints[name]) for name in model.model_fields if "tuple" in str(hints[name])
        }
    unbounded = [name for name, hint in lists.items() if not re.search("_require_few|_first", hint)]
    assert len(lists) > 5
    assert not unbounded


REPEATED: Final = {
    "our number of every status": ("whatsapp", whatsapp(
        metadata={"display_phone_number": "5" * 100_000}, statuses=[{"id": str(n), "status": "sent"} for n in range(3000)])),
    "the id of an event of every refund": ("stripe", stripe_event("e" * 100_000, "charge.refunded", {
        "id": "ch_1", "payment_intent": "pi_1", "status": "succeeded",
        "refunds": {"data": [{"id": f"re_{n}", "status": "succeeded", "amount": 1} for n in range(1000)]}})),
    "the portal of every merged object": ("hubspot", packed([{**contact(1), "subscriptionType": "contact.merge",
        "portalId": "9" * 100_000, "primaryObjectId": 1, "mergedObjectIds": list(range(1000))}])),
}  # fmt: skip
"""What stands once in a body and in every row of its events."""


@pytest.mark.parametrize("name", REPEATED)
def test_a_body_that_repeats_itself_in_its_rows_is_dead_and_says_so(name: str) -> None:
    provider, body = REPEATED[name]
    letter = letter_of(delivered(provider, body))
    assert letter.reason == "invalid_payload"
    assert "the body repeats itself in its rows" in letter.message


def test_an_event_whose_rows_are_too_large_is_dead_alone() -> None:
    event = {**contact(1), "subscriptionType": "contact.merge", "portalId": "9" * 100_000, "primaryObjectId": 1}
    folded = fold_record(delivered("hubspot", packed([contact(7), {**event, "mergedObjectIds": list(range(1000))}])))
    assert (len(folded.events), len(folded.letters)) == (1, 1)
    assert folded.letters[0].ordinal == 2


def test_the_rows_of_the_largest_text_are_within_the_bound() -> None:
    body = whatsapp(
        messages=[{"id": "1", "from": "1", "timestamp": "1", "type": "text", "text": {"body": "é" * 650_000}}]
    )
    assert len(body) < 4 * 2**20
    folded = fold_record(delivered("whatsapp", body))
    assert not folded.letters
    assert sum(size_of(row) for _, row in folded.rows) == folded.size <= largest_of(body) == MAX_ROWS_SIZE


def test_statements_are_of_bounded_size_and_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.rows.STATEMENT_SIZE", 10)
    rows = [("x" * length,) for length in (3, 7, 1, 9, 30, 1, 1, 8, 2)]
    found = [list(part) for part in portions(rows)]
    assert [row for part in found for row in part] == rows
    assert all(len(part) == 1 or sum(map(size_of, part)) <= 10 for part in found)
