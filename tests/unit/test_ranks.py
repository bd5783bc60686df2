"""Design §6: statuses have ranks. What is further along stays, in whichever order it is told."""

from itertools import combinations
from typing import Any

import pytest

from processors.fold import combine, fold_record
from schemas.facts import CALLS, Call
from schemas.lattice import Version
from tests.support.records import record, stripe_event

MESSAGES = (
    "accepted",
    "scheduled",
    "queued",
    "sending",
    "sent",
    "canceled",
    "failed",
    "undelivered",
    "delivered",
    "read",
)
INVOICES = ("draft", "open", "uncollectible", "void", "paid")
PHASES = ("ringing", "answered", "canceled", "no-answer", "busy", "failed", "missed", "completed")


def status_of(one: Any, other: Any) -> Any:
    """The status of the row that both records are about, told in both orders."""
    folded = [fold_record(one), fold_record(other)]
    assert not any(each.letters for each in folded), folded
    found = set()
    for told in (folded, folded[::-1]):
        ((table, rows),) = combine(told).tables.items()
        (row,) = rows
        found.add(dict(zip((each.name for each in table.columns), row, strict=True))["status"])
    (status,) = found
    return status


def sms(status: str) -> Any:
    body = f"MessageSid=SM1&From=%2B1&To=%2B2&MessageStatus={status}".encode()
    return record("webhooks.twilio", "twilio", body, content_type="application/x-www-form-urlencoded")


@pytest.mark.parametrize(("lower", "higher"), list(combinations(MESSAGES, 2)))
def test_a_message_keeps_its_highest_status(lower: str, higher: str) -> None:
    assert status_of(sms(lower), sms(higher)) == higher


def test_an_inbound_message_is_received_after_it_was_being_received() -> None:
    assert status_of(sms("receiving"), sms("received")) == "received"


def invoice(status: str, created: int = 1) -> Any:
    data = {"id": "in_1", "customer": "cus_1", "status": status, "amount_due": 5, "amount_paid": 0}
    return record(
        "webhooks.stripe", "stripe", stripe_event(f"evt_{status}_{created}", "invoice.updated", data, created)
    )


@pytest.mark.parametrize(("lower", "higher"), list(combinations(INVOICES, 2)))
def test_an_invoice_keeps_its_highest_status_whatever_the_times(lower: str, higher: str) -> None:
    assert status_of(invoice(lower, created=2), invoice(higher, created=1)) == higher


@pytest.mark.parametrize(("lower", "higher"), list(combinations(PHASES, 2)))
def test_a_call_keeps_its_highest_status(lower: str, higher: str) -> None:
    """No provider says all of them, so here speaks none."""

    def row(status: str) -> Any:
        return CALLS.row(Call(version=Version(None, 0, "e"), source="s", call_id="c", status=status))

    column = [one.name for one in CALLS.columns].index("status")
    assert CALLS.join(row(lower), row(higher))[column] == higher
    assert CALLS.join(row(higher), row(lower))[column] == higher
