"""The `error` of an event and of a dead letter says what is wrong with a body, and never quotes it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from processors.fold import fold_record
from processors.projections import PROJECTIONS
from processors.projections.base import Event
from schemas.envelope import Record
from schemas.providers.base import Payload
from tests.support.folding import letter_of
from tests.support.planting import EMAIL, PHONE, PLANTED, TOKEN, planted_records, traces
from tests.support.records import FakeRecord, payment, record


def errors_of(one: FakeRecord) -> list[str]:
    folded = fold_record(one)
    dead = [text for letter in folded.letters for text in (letter.message, letter.event.error or "")]
    return dead + [event.error for event in folded.events if event.error]


@pytest.mark.parametrize("value", PLANTED)
def test_no_error_quotes_a_body_wherever_it_is_wrong(value: object) -> None:
    said = {error for one in planted_records("webhooks.x", value) for error in errors_of(one)}
    assert len(said) > 5, "the records are poison in many ways"
    assert not {error: found for error in said if (found := traces(error))}


@pytest.mark.parametrize("body", [f"{PHONE} {EMAIL}", f'{{"id": "{TOKEN}"', f'["{EMAIL}"]', f'"{PHONE}"', TOKEN])
def test_no_error_quotes_what_is_no_event_at_all(body: str) -> None:
    for provider in PROJECTIONS:
        for error in errors_of(record("webhooks.x", provider, body.encode())):
            assert not traces(error)


def test_no_error_quotes_headers_that_somebody_else_wrote() -> None:
    ours = record("webhooks.x", "stripe", payment(1))
    for name, _ in ours.headers:
        headers = [(key, f"{PHONE} {EMAIL} {TOKEN}".encode() if key == name else value) for key, value in ours.headers]
        for foreign in (headers, [header for header in headers if header[0] != name]):
            for error in errors_of(replace(ours, headers=foreign)):
                assert not traces(error)


def test_what_a_plug_in_quotes_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    def quote(record: Record, payload: Payload) -> Iterator[Event]:
        yield Event("evt_1", record.type, None, error=f"not for {PHONE} or {EMAIL}")

    monkeypatch.setitem(PROJECTIONS, "stripe", quote)
    folded = fold_record(record("webhooks.x", "stripe", payment(1)))
    assert not folded.letters
    assert folded.events[0].error == "not for +33•••5432 or z•••@example.com"


def test_a_bug_in_a_projection_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(record: Record, payload: Payload) -> Iterator[Event]:
        raise RuntimeError(f"I did not expect {TOKEN}")

    monkeypatch.setitem(PROJECTIONS, "stripe", stumble)
    dead = letter_of(record("webhooks.x", "stripe", payment(1)))
    assert dead.event.error is not None
    assert dead.event.error.startswith("projection_failed: RuntimeError at unit/test_private_errors.py:")
