"""Design §6: what each fixture becomes, written down by hand."""

import json
from typing import Any

import pytest

from processors.fold import combine, fold_record
from schemas.facts import TABLES
from tests.support.fixtures import READABLE, of_fixture
from tests.support.folding import letter_of
from tests.support.records import FakeRecord, record, stripe_event
from tests.support.rows import rows_of
from tests.unit.expectations import EXPECTED
from tests.unit.expectations.base import at


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fixture_becomes_the_facts_that_the_design_says(name: str) -> None:
    actual = rows_of(of_fixture(name))
    expected = EXPECTED[name]
    assert [table for table, _ in actual] == [table for table, _ in expected]
    for (_, found), (_, wanted) in zip(actual, expected, strict=True):
        assert {column: found.get(column) for column in wanted} == wanted


def test_every_fixture_is_expected_and_has_its_events() -> None:
    assert set(EXPECTED) == set(READABLE)
    for name in READABLE:
        folded = fold_record(of_fixture(name))
        assert not folded.letters, name
        assert folded.events


def test_a_batch_is_one_record_with_an_event_for_each_of_its_updates() -> None:
    one = of_fixture("whatsapp/batch.multi_entry.json")
    folded = fold_record(one)
    assert not folded.letters
    assert one.key is not None
    assert one.key.startswith(b"batch:")
    assert [event.status for event in folded.events].count("applied") == 5
    assert [event.type for event in folded.events if event.status == "ignored"] == [
        "whatsapp.message_template_status_update"
    ]
    numbers = {row["our_number"] for _, row in rows_of(one)}
    assert numbers == {"+15550783881", "+33180000000"}


def test_statuses_of_one_second_are_ordered_by_rank() -> None:
    """WhatsApp sends `sent` and `delivered` within one second; whichever comes last must not win."""
    messages = next(table for table in TABLES if table.name == "messages")
    sent, delivered = (fold_record(of_fixture(f"whatsapp/status.{name}.json")) for name in ("sent", "delivered"))
    assert not sent.letters
    assert not delivered.letters
    joined = messages.join(delivered.rows[0][1], sent.rows[0][1])
    columns = dict(zip((c.name for c in messages.columns), joined, strict=True))
    assert (columns["status"], columns["sent_at"], columns["delivered_at"]) == (
        "delivered",
        at(1750857384),
        at(1750857384),
    )


def purchase(**changes: Any) -> FakeRecord:
    data = {
        "id": "pi_1",
        "status": "succeeded",
        "amount": 100,
        "currency": "eur",
        "customer": "cus_1",
        "metadata": {"type": "credit_purchase", "credits": "5"},
        **changes,
    }
    return record("webhooks.stripe", "stripe", stripe_event("evt_1", "payment_intent.succeeded", data))


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0},
        *(
            {"metadata": {"type": "credit_purchase", "credits": credits}}
            for credits in ("0", "-5", "1.5", "", "٣", "x", "1000000000000001", "9" * 5000)
        ),
    ],
    ids=str,
)
def test_a_purchase_without_countable_credits_is_ignored_with_an_error(changes: dict[str, Any]) -> None:
    folded = fold_record(purchase(**changes))
    assert not folded.letters
    assert (folded.events[0].status, bool(folded.events[0].error)) == ("ignored", True)
    assert [table.name for table, _ in folded.rows] == ["payments"], "the money was paid nevertheless"


@pytest.mark.parametrize("changes", [{"customer": None}, {"metadata": {"type": "credit_purchase"}}], ids=str)
def test_what_another_event_may_say_of_a_purchase_is_no_error(changes: dict[str, Any]) -> None:
    (event,) = fold_record(purchase(**changes)).events
    assert (event.status, event.error) == ("applied", None)


def test_the_bound_of_credits_is_no_number_to_be_masked() -> None:
    (event,) = fold_record(purchase(metadata={"type": "credit_purchase", "credits": "x"})).events
    assert event.error == "metadata.credits is not a whole number from 1 to 10^15"


def usage(**changes: Any) -> FakeRecord:
    data = {"id": "use_1", "customer": "cus_1", "credits": 3, "source": "stripe", **changes}
    body = json.dumps({"type": "credits.used", "timestamp": "2026-01-01T00:00:00Z", "data": data}).encode()
    return record("webhooks.standardwebhooks", "standardwebhooks", body, signed_id="msg_1")


def test_credits_used_are_negative_and_belong_to_the_source_of_the_account() -> None:
    ((table, row),) = rows_of(usage())
    assert table == "credit_entries"
    assert (row["source"], row["entry_id"], row["credits"], row["kind"]) == ("stripe", "use_1", -3, "usage")


@pytest.mark.parametrize(
    "changes", [{"credits": 0}, {"credits": "3"}, {"credits": -1}, {"source": None}, {"id": ""}], ids=str
)
def test_usage_that_does_not_follow_its_schema_is_a_dead_letter(changes: dict[str, Any]) -> None:
    """It is read, and who used the credits is charged for them once it can be."""
    dead = letter_of(usage(**changes))
    (name,) = changes
    assert (dead.reason, dead.message.partition(":")[0]) == ("invalid_payload", f"CreditsUsed.{name}")


@pytest.mark.parametrize("taken", ["pi_1", "correction:1"])
def test_a_usage_takes_the_place_of_no_purchase_and_no_correction(taken: str) -> None:
    """Entries of all kinds share a table, and the later one would win."""
    letter = letter_of(usage(id=taken))
    assert letter.reason == "invalid_payload"
    assert "begin the ids of purchases and corrections" in letter.message


@pytest.mark.parametrize(("word", "is_opt_out"), [("STOP", True), (" stop ", True), ("Stop it", False), ("", False)])
def test_stop_is_an_opt_out_only_alone(word: str, is_opt_out: bool) -> None:
    from urllib.parse import urlencode

    body = urlencode({"MessageSid": "SM1", "SmsStatus": "received", "From": "+1", "To": "+2", "Body": word}).encode()
    ((_, row),) = rows_of(record("webhooks.twilio", "twilio", body, content_type="application/x-www-form-urlencoded"))
    assert row["is_opt_out"] is is_opt_out


def telnyx_event(kind: str, **payload: Any) -> bytes:
    data = {"id": "e", "event_type": kind, "occurred_at": "2026-01-01T00:00:00Z", "payload": payload}
    return json.dumps({"data": data}).encode()


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("stripe", stripe_event("evt_1", "charge.refunded", {"id": "ch_1", "amount_refunded": 5})),
        ("whatsapp", b'{"entry":[{"changes":[{"value":{"statuses":[{"id":"w","status":"deleted"}]}}]}]}'),
        ("twilio", b"MessageSid=SM1&MessageStatus=partially_delivered"),
        ("twilio", b"CallSid=CA1&CallStatus=paused"),
        ("sendgrid", b'[{"event":"bounce","timestamp":1,"sg_event_id":"e"}]'),
        ("telnyx", telnyx_event("message.finalized", id="m", to=[{"status": "gone"}])),
        ("telnyx", telnyx_event("call.recording.saved", call_leg_id="l")),
    ],
    ids=lambda given: given[:60].decode() if isinstance(given, bytes) else given,
)
def test_what_says_nothing_of_any_row_is_ignored_with_an_error_and_not_dead(provider: str, body: bytes) -> None:
    content_type = "application/x-www-form-urlencoded" if provider == "twilio" else "application/json"
    folded = fold_record(record(f"webhooks.{provider}", provider, body, content_type=content_type))
    assert not folded.letters
    assert ([event.status for event in folded.events], folded.rows) == (["ignored"], ())
    assert folded.events[0].error


@pytest.mark.parametrize("order", [1, -1])
def test_an_event_that_a_record_names_twice_shows_the_better_outcome(order: int) -> None:
    ignored = {"event": "bounce", "timestamp": 1, "sg_event_id": "e"}
    applied = {**ignored, "sg_message_id": "m.1"}
    body = json.dumps([ignored, applied][::order]).encode()
    folded = fold_record(record("webhooks.sendgrid", "sendgrid", body))
    assert not folded.letters
    assert [event.status for event in combine([folded]).events] == ["applied"]


def test_a_bug_in_a_projection_kills_its_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from processors.projections import PROJECTIONS

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setitem(PROJECTIONS, "stripe", broken)
    dead = letter_of(purchase())
    assert dead.reason == "projection_failed"
