"""What customers bought and got back, event by event."""

from itertools import permutations
from typing import Any

import pytest

from tests.support.cases import fold_webhooks, webhooks_of
from tests.support.money import Told, charge, dispute, intent, refund, session
from tests.support.tables import empty


def listed(*refunds: tuple[str, int, str]) -> dict[str, Any]:
    """As a charge lists them before API version 2022-11-15."""
    return {"refunds": {"data": [{"id": name, "amount": amount, "status": end} for name, amount, end in refunds]}}


GIVEN_BACK: dict[str, tuple[Told, int | None, int]] = {
    "nothing": ([intent()], None, 0),
    "a charge says so alone": ([intent(), charge(1000)], 1000, 100),
    "a charge takes it back": ([intent(), charge(1000), charge(0, 22, kind="updated")], 0, 0),
    "in parts of one second, by the charge alone": ([intent(), charge(900, 10), charge(1000, 10, customer=None)], 1000, 100),
    "a refund of which the charge said nothing": ([intent(), refund("re_1", 400, "succeeded")], 400, 40),
    "a refund that is pending": ([intent(), charge(400), refund("re_1", 400, "pending")], 400, 40),
    "a refund that wants an action": ([intent(), refund("re_1", 400, "requires_action")], 400, 40),
    "a refund of no status": ([intent(), charge(400, **listed(("re_1", 400, None)))], 400, 40),  # type: ignore[arg-type]
    "a refund that failed": ([intent(), charge(1000), refund("re_1", 1000, "failed", kind="refund.failed")], 0, 0),
    "a refund that was canceled": ([intent(), charge(1000), refund("re_1", 1000, "canceled")], 0, 0),
    "a refund that failed after it succeeded": (
        [intent(), refund("re_1", 1000, "succeeded", 20), refund("re_1", 1000, "failed", 9)], 0, 0),
    "as charge.refund.updated": (
        [intent(), charge(1000), refund("re_1", 1000, "failed", kind="charge.refund.updated")], 0, 0),
    "two, of which one failed": (
        [intent(), charge(400, 10), charge(1000, 11), refund("re_1", 400, "succeeded"), refund("re_2", 600, "failed")],
        400, 40),
    "two, of which only the failed one has an event": (
        [intent(), charge(400, 10), charge(1000, 11), refund("re_2", 600, "failed")], 400, 40),
    "one that failed, and another": (
        [intent(), charge(1000), refund("re_1", 1000, "failed"), charge(300, 30), refund("re_2", 300, "succeeded", 30)],
        300, 30),
    "a list in the charge, and a failure": (
        [intent(), charge(1000, **listed(("re_1", 400, "succeeded"), ("re_2", 600, "pending"))),
         refund("re_2", 600, "failed")], 400, 40),
    "more than was captured": ([intent(amount_received=600), charge(1000)], 1000, 100),
    "half of what was captured": ([intent(amount_received=600), charge(700, amount_captured=600)], 700, 50),
    "what was never captured": ([intent(amount_received=600), charge(400, 3, kind="updated")], 400, 0),
    "what was never captured, and then all of it": (
        [intent(amount_received=600), charge(400, 3), charge(1000, 9)], 1000, 100),
    "what was never captured, as a refund, and a sixth": (
        [intent(amount_received=600), refund("re_1", 400, "succeeded", 3), refund("re_2", 100, "pending")], 500, 16),
    "what was never captured, and a lost dispute": (
        [intent(amount_received=600), charge(400, 3), dispute("lost", amount=300)], 400, 50),
    "a second refund that has no event, after a failed one": (
        [intent(), charge(400, 10), refund("re_1", 400, "failed", kind="charge.refund.updated"), charge(400, 30)],
        400, 40),
    "all of it, twice, of which the first failed": (
        [intent(), charge(1000), refund("re_1", 1000, "failed"), charge(0, 20, kind="updated"), charge(1000, 30)],
        1000, 100),
    "a failure that only the charge tells, and another refund": (
        [intent(), charge(1000), charge(0, 20, kind="updated"), refund("re_2", 300, "succeeded", 30), charge(300, 30)],
        300, 30),
    "a refund that stands without events, and one that failed": (
        [intent(), charge(400), charge(1000, 11), refund("re_2", 600, "failed"), charge(400, 20, kind="updated")],
        400, 40),
    "a refund that failed within its second": (
        [intent(), charge(1000, 20), refund("re_1", 1000, "failed", 20), charge(0, 20, kind="updated")], 0, 0),
    "a list that holds a failed one": (
        [intent(), charge(400, 10), charge(300, 30, **listed(("re_1", 400, "failed"), ("re_2", 300, "succeeded")))],
        300, 30),
    "a list that holds a failed one, and one that it doesn't name": (
        [intent(), charge(300, 30, **listed(("re_1", 400, "failed")))], 300, 30),
    "a declined card, that something is said of later": (
        [intent(), charge(1000), charge(0, 30, kind="updated", id="ch_0", status="failed")], 1000, 100),
    "one that failed twice": (
        [intent(), charge(1000), refund("re_1", 1000, "failed"), charge(500, 30), refund("re_1", 1000, "failed", 40)],
        500, 50),
    "a dispute that is open": ([intent(), dispute("needs_response", 29, kind="funds_withdrawn")], None, 0),
    "a dispute that is lost": ([intent(), dispute("under_review", 30, kind="updated"), dispute("lost", 30)], None, 100),
    "a dispute that is lost in part": ([intent(), dispute("lost", amount=250)], None, 25),
    "a dispute that is won": ([intent(), dispute("needs_response", kind="created"), dispute("won", 31)], None, 0),
    "a dispute that is lost, then reinstated": (
        [intent(), dispute("lost", 30), dispute("won", 40, kind="funds_reinstated")], None, 0),
    "an inquiry that is closed": ([intent(), dispute("warning_closed")], None, 0),
    "a refund and a lost dispute": ([intent(), charge(400), dispute("lost", amount=1000)], 400, 100),
    "a currency without decimals": ([intent(amount=3, currency="jpy"), charge(1, currency="jpy")], 1, 33),
    "a refund that came first, of a purchase named by its session": (
        [charge(500), intent(metadata={}), session()], 500, 50),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN_BACK)
async def test_credits_come_off_the_balance_as_the_money_goes_back(name: str, shared_connection: Any) -> None:
    told, refunded, returned = GIVEN_BACK[name]
    await empty(shared_connection)
    for order in permutations(told):
        # Rolled back, which is cheaper than to empty all tables 120 times.
        undo = shared_connection.transaction()
        await undo.start()
        try:
            assert await fold_webhooks(shared_connection, order) == []
            row = await shared_connection.fetchrow(
                "SELECT amount_refunded, entry.credits, credits_refunded, balance, credit_balance FROM payments"
                " JOIN credit_entries AS entry ON entry_id = payment_intent_id, credits, accounts"
            )
            assert tuple(row) == (refunded, 100, returned, 100 - returned, 100 - returned)
            assert await shared_connection.fetchval("SELECT count(*) FROM unassigned_purchases") == 0
        finally:
            await undo.rollback()


@pytest.mark.parametrize("order", [1, -1])
async def test_a_refund_that_fails_gives_the_credits_back(order: int, shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("17-")[::order]) == []
    assert await shared_connection.fetchval("SELECT balance FROM credits WHERE customer_id = 'cus_case17'") == 100
