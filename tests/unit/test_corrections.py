"""A correction is an event like any other; what is none is a dead letter, and nothing else can pass for one."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from processors.fold import fold_record
from replay.operations.corrections import parse_correction
from schemas.corrections import SOURCE
from schemas.errors import InvalidSelection
from schemas.topics import OPERATOR, SIDE_CONFIG, is_folded, is_source_name
from tests.support.corrections import account, correction, correction_record, credits, subscription
from tests.support.folding import letter_of
from tests.support.records import FakeRecord, payment, record


def changed(one: FakeRecord, **body: Any) -> FakeRecord:
    document = {**orjson.loads(one.value or b""), **body}
    return replace(one, value=orjson.dumps(document))


def test_a_correction_is_an_event_of_its_own_source() -> None:
    folded = fold_record(correction_record(correction("fix-1", credits(-5)), offset=7))
    assert not folded.letters
    (event,) = folded.events
    assert (event.source, event.event_id, event.provider) == ("operator", "correction:fix-1", "operator")
    assert (event.type, event.status, event.record_offset) == ("operator.credits.adjusted", "applied", 7)
    ((table, row),) = folded.rows
    found = dict(zip((column.name for column in table.columns), row, strict=True))
    assert (table.name, found["source"], found["entry_id"]) == ("credit_entries", "stripe", "correction:fix-1")
    assert (found["kind"], found["credits"], found["reason"]) == ("adjustment", -5, "because")


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        (account(True), ["account_corrections"]),
        (subscription("active"), ["subscriptions", "subscription_corrections"]),
    ],
)
def test_what_a_correction_becomes(change: dict[str, Any], tables: list[str]) -> None:
    folded = fold_record(correction_record(correction("fix", change)))
    assert not folded.letters
    assert [table.name for table, _ in folded.rows] == tables


GOOD = correction_record(correction("fix", credits(5)))
FORGED: dict[str, tuple[FakeRecord, str]] = {
    "no JSON": (replace(GOOD, value=b"junk"), "unparsable"),
    "nothing": (replace(GOOD, value=None), "unparsable"),
    "no object": (replace(GOOD, value=b"[]"), "invalid_payload"),
    "JSON without end": (replace(GOOD, value=b"[" * 100_000), "unparsable"),
    "no headers": (replace(GOOD, headers=[]), "bad_envelope"),
    "no change": (changed(GOOD, change=None), "invalid_payload"),
    "an unknown change": (changed(GOOD, change={"type": "customer.deleted"}), "invalid_payload"),
    "a field that nobody knows": (changed(GOOD, more=1), "invalid_payload"),
    "credits as text": (changed(GOOD, change={**credits(5), "credits": "5"}), "invalid_payload"),
    "credits beyond a bigint": (changed(GOOD, change=credits(2**63)), "invalid_payload"),
    "no credits": (changed(GOOD, change=credits(0)), "invalid_payload"),
    "a NUL": (changed(GOOD, change=credits(5, "cus_\0")), "invalid_payload"),
    "a time without a zone": (changed(GOOD, at="2026-01-01T00:00:00"), "invalid_payload"),
    "a time before all calendars": (changed(GOOD, at="0001-01-01T00:00:00+23:59"), "invalid_payload"),
    "an unknown status": (changed(GOOD, change=subscription("asleep")), "invalid_payload"),
    "another id than its headers say": (changed(GOOD, id="other"), "bad_envelope"),
    "another type than its headers say": (changed(GOOD, change=account(True)), "bad_envelope"),
    "a provider's delivery": (
        replace(record("webhooks.stripe", "stripe", payment(1)), topic=OPERATOR),
        "bad_envelope",
    ),
    "a provider's delivery that calls itself ours": (record(OPERATOR, "stripe", payment(1)), "invalid_payload"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_correction_is_a_dead_letter(name: str) -> None:
    forged, reason = FORGED[name]
    dead = letter_of(forged)
    assert dead.reason == reason


def test_no_delivery_passes_for_an_operators_word() -> None:
    """Not even one whose headers say so: only the topic counts, and only operators may write to it."""
    assert letter_of(replace(GOOD, topic="webhooks.stripe")).reason == "bad_envelope"
    said = [(name, b"/webhooks/stripe" if name == "ce_source" else value) for name, value in GOOD.headers]
    assert letter_of(replace(GOOD, topic="webhooks.stripe", headers=said)).reason == "bad_envelope"


def test_a_time_is_the_same_in_every_zone() -> None:
    ends = ("2026-12-21T01:00:00+01:00", "2026-12-21T00:00:00Z")
    one, other = (correction("fix", subscription("active", current_period_end=end)) for end in ends)
    assert one.fingerprint == other.fingerprint
    assert one.body() == other.body()


def test_the_moment_is_no_part_of_what_a_correction_says() -> None:
    first, later = (correction("fix", credits(5), at) for at in (0, 60))
    assert first.fingerprint == later.fingerprint
    assert first.fingerprint != correction("fix", credits(6)).fingerprint


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"\xff"',
        b'{"source": "stripe", "reason": "r", "change": {"type": "credits.adjusted", "customer": "c"}}',
        b'{"source": "stripe", "reason": "r", "change": {"type": "credits.adjusted", "customer": "c", "credits": 1.5}}',
        b'{"source": "stripe", "reason": "r", "id": "a b", "change": {"type": "account.frozen", "customer": "c"}}',
        b'{"source": "stripe", "reason": "r", "dry_run": 1, "change": {"type": "account.frozen", "customer": "c"}}',
    ],
)
def test_an_order_that_can_not_be_read_says_why(body: bytes) -> None:
    with pytest.raises(InvalidSelection):
        parse_correction(body)


def test_a_correction_needs_a_reason() -> None:
    good = correction("fix", credits(5))
    with pytest.raises(ValidationError):
        type(good).model_validate({**good.model_dump(), "reason": ""})


def test_corrections_are_part_of_the_log_that_is_folded_and_their_source_is_nobodys() -> None:
    folded = {name for name in (*SIDE_CONFIG, "webhooks.stripe", "orders") if is_folded(name)}
    assert folded == {OPERATOR, "webhooks.stripe"}
    assert not is_source_name(SOURCE)
