"""Corrections among the provider's events: in any order and repetition, the views say what happened last (invariant 5)."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.fold import combine, fold_record
from processors.store import Store
from tests.support.corrections import CUSTOMER, account, correction, correction_record, credits, moment, subscription
from tests.support.folding import NoLetters
from tests.support.records import FakeRecord, record, stripe_event
from tests.support.tables import empty

EXAMPLES = 40
NOW = 1_760_000_000
STATUSES = ("active", "past_due", "unpaid", "canceled")


@dataclass(frozen=True)
class Said:
    """What somebody said, so many half seconds after NOW: `kind` by an operator or by the provider."""

    kind: str
    at: int
    value: Any

    def record(self, number: int) -> FakeRecord:
        seconds, name = self.at / 2, f"n{number}"
        if self.kind == "credits":
            return correction_record(correction(name, credits(self.value), seconds))
        if self.kind == "account":
            return correction_record(correction(name, account(self.value), seconds))
        if self.kind == "subscription":
            end = {"current_period_end": moment(self.value[1]).isoformat()} if self.value[1] else {}
            return correction_record(correction(name, subscription(self.value[0], **end), seconds))
        created = NOW + self.at // 2
        if self.kind == "event":
            data = {
                "id": "sub_1",
                "customer": CUSTOMER,
                "status": self.value,
                "current_period_end": NOW,
                "items": {"data": []},
            }
            return _stripe(name, "customer.subscription.updated", data, created)
        kinds = {"failed": "payment_failed", "voided": "voided", "sent": "sent"}
        status = "void" if self.value == "voided" else "open"
        data = {"id": "in_1", "customer": CUSTOMER, "status": status, "amount_due": 5, "amount_paid": 0}
        return _stripe(name, f"invoice.{kinds[self.value]}", data, created)


def _stripe(name: str, kind: str, data: dict[str, Any], created: int) -> FakeRecord:
    return record("webhooks.stripe", "stripe", stripe_event(f"evt_{name}", kind, data, created))


def words(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Said]:
    return st.builds(Said, st.just(kind), st.integers(0, 20), values)


SAYINGS = st.lists(
    words("credits", st.sampled_from([-7, 3, 100]))
    | words("account", st.booleans())
    | words("subscription", st.tuples(st.sampled_from(STATUSES), st.sampled_from([None, 5000, 9000])))
    | words("event", st.sampled_from(STATUSES))
    | words("invoice", st.sampled_from(["failed", "sent", "voided"])),
    min_size=1,
    max_size=8,
    # What two say in one moment is decided by their ids, which has its own tests.
    unique_by=lambda said: said.at // 2,
)


def expected(sayings: list[Said]) -> dict[str, Any]:
    """Told from what happened, in its order, without a merge."""
    status = period = word = None
    balance, failed, is_void, has_subscription = 0, False, False, False
    for said in sorted(sayings, key=lambda one: one.at):
        if said.kind == "credits":
            balance += said.value
        elif said.kind == "account":
            word = said.value
        elif said.kind == "subscription":
            status, period = said.value[0], moment(said.value[1]) if said.value[1] else period
        elif said.kind == "event":
            status, period, word, has_subscription = said.value, moment(0), None, True
        elif said.value == "failed":
            failed, word = True, None
        elif said.value == "voided":
            is_void, word = True, None
    if not has_subscription:
        # Whose it is, no event has said.
        reason = None
    else:
        reason = {"unpaid": "subscription_unpaid", "canceled": "subscription_canceled"}.get(status or "")
    if failed and not is_void:
        reason = "invoice_payment_failed"
    if word is not None:
        reason = "operator" if word else None
    return {"status": status, "period": period, "balance": balance, "reason": reason, "frozen": reason is not None}


async def fold(connection: Any, records: list[FakeRecord]) -> None:
    for one in records:
        folded = fold_record(one)
        assert not folded.letters, folded
        await Store(1, NoLetters())._write(connection, combine([folded]))


async def read(connection: Any) -> dict[str, Any]:
    row = await connection.fetchrow("SELECT * FROM accounts WHERE customer_id = $1", CUSTOMER)
    said = await connection.fetchrow("SELECT status, current_period_end FROM subscriptions")
    return {
        "status": said and said["status"],
        "period": said and said["current_period_end"],
        "balance": row["credit_balance"] if row else 0,
        "reason": row and row["frozen_reason"],
        "frozen": bool(row and row["is_frozen"]),
    }


FREEZE = Said("account", 4, True)


@settings(max_examples=EXAMPLES)
@given(sayings=SAYINGS, seed=st.integers(0, 2**32 - 1))
@example(sayings=[FREEZE, Said("event", 2, "active")], seed=0)
@example(sayings=[FREEZE, Said("event", 6, "active")], seed=0)
@example(sayings=[Said("account", 4, False), Said("invoice", 2, "failed")], seed=0)
@example(sayings=[Said("account", 4, False), Said("invoice", 2, "failed"), Said("invoice", 6, "failed")], seed=0)
@example(sayings=[FREEZE, Said("invoice", 6, "voided"), Said("event", 0, "active")], seed=0)
@example(sayings=[Said("event", 2, "unpaid"), Said("subscription", 3, ("active", 5000))], seed=0)
@example(sayings=[Said("subscription", 3, ("active", 5000)), Said("event", 4, "unpaid")], seed=0)
@example(sayings=[Said("subscription", 2, ("active", 5000)), Said("subscription", 4, ("unpaid", None))], seed=0)
async def test_the_views_say_what_was_said_last_in_any_order_and_repetition(
    sayings: list[Said], seed: int, shared_connection: Any
) -> None:
    records = [said.record(number) for number, said in enumerate(sayings)]
    log = records + random.Random(seed).sample(records, len(records) // 2)
    random.Random(seed).shuffle(log)
    await empty(shared_connection)
    await fold(shared_connection, log)
    assert await read(shared_connection) == expected(sayings)


@pytest.mark.parametrize("half", [0, 1])
async def test_a_word_of_an_operator_wins_a_tie_with_whole_seconds(shared_connection: Any, half: int) -> None:
    """Of an event of 10 s nobody knows whether it was before 10.5 s: the operator knew of it, or will hear more."""
    said = [
        Said("event", 20, "unpaid"),
        Said("subscription", 20 + half, ("active", None)),
        Said("account", 20 + half, True),
    ]
    await empty(shared_connection)
    await fold(shared_connection, [one.record(number) for number, one in enumerate(said)])
    found = await read(shared_connection)
    assert (found["status"], found["reason"]) == ("active", "operator")


async def test_a_new_subscription_is_there_with_its_customer_and_its_account(shared_connection: Any) -> None:
    await empty(shared_connection)
    said = correction("fix", subscription("active", "sub_new", customer="cus_new"))
    await fold(shared_connection, [correction_record(said)])
    row = await shared_connection.fetchrow("SELECT * FROM subscriptions")
    assert (row["subscription_id"], row["customer_id"], row["event_id"]) == ("sub_new", "cus_new", "correction:fix")
    row = await shared_connection.fetchrow("SELECT * FROM accounts")
    assert (row["customer_id"], row["subscription_status"], row["is_frozen"]) == ("cus_new", "active", False)
