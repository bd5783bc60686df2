"""Design §6, payments and credits: what is paid ends in a balance or in a list, and what is given back comes off it.

Every story is told in every order: no rule may hang on the order of events.
"""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from deploy.migrate import store_price_tiers
from tests.support.cases import fold_webhooks, webhooks_of
from tests.support.money import BOUGHT, CUSTOMER, INTENT, Told, charge, dispute, event, intent, refund, session
from tests.support.story import Webhook
from tests.support.tables import empty

GUEST: dict[str, Any] = {"customer": None}
ASSIGNED: dict[str, Told] = {
    "by the intent": [intent()],
    "by the intent, and nothing by its session": [intent(), session(metadata={}, customer=None)],
    "by the session alone": [intent(metadata={}, customer=None), session()],
    "metadata by the session, the customer by the intent": [intent(metadata={}), session(customer=None)],
    "metadata by the intent, the customer by the session": [intent(customer=None), session(metadata={})],
    "the number of credits by the session": [intent(metadata={"type": "credit_purchase"}), session()],
    "where both name a number, the intent's": [intent(), session(metadata={**BOUGHT, "credits": "7"})],
    "by a session that was paid later": [
        session(1, payment_status="unpaid"), session(2, kind="async_payment_succeeded"), intent(2, metadata={})],
    "whole by the intent, and without a number by the session": [intent(), session(metadata={"type": "credit_purchase"})],
    "the customer by the intent, which is of something else": [intent(metadata={"type": "order"}), session(customer=None)],
    "by a session that is said before the intent's other purpose": [intent(2, metadata={"type": "order"}), session(1)],
    "by an intent that is said before the session's other purpose": [intent(1), session(2, metadata={"type": "order"})],
    "metadata that holds more than text": [intent(metadata={**BOUGHT, "note": None}), session(metadata=None)],
}  # fmt: skip


@pytest.mark.parametrize("name", ASSIGNED)
async def test_a_purchase_is_whose_any_event_says_it_is(name: str, shared_connection: Any) -> None:
    for order in permutations(ASSIGNED[name]):
        await empty(shared_connection)
        assert await fold_webhooks(shared_connection, order) == []
        row = await shared_connection.fetchrow("SELECT customer_id, balance FROM credits")
        assert tuple(row) == (CUSTOMER, 100)
        assert await shared_connection.fetch("SELECT * FROM unassigned_purchases") == []
        assert await shared_connection.fetch("SELECT * FROM webhook_events WHERE error IS NOT NULL") == []


NO_NUMBER = "metadata.credits is not a whole number from 1 to 10^15"
PROBLEMS: dict[str, tuple[Told, str, str | None]] = {
    "a guest": ([intent(**GUEST)], "no_customer", None),
    "a guest, named by the session": ([intent(metadata={}, **GUEST), session(**GUEST)], "no_customer", None),
    "no number": ([intent(metadata={"type": "credit_purchase"})], "no_credits", None),
    "a number that is none": ([intent(metadata={**BOUGHT, "credits": "-5"})], "no_credits", NO_NUMBER),
    "a number without end": ([intent(metadata={**BOUGHT, "credits": "9" * 40})], "no_credits", NO_NUMBER),
    "no number in either": (
        [intent(metadata={}), session(metadata={"type": "credit_purchase"})], "no_credits", None),
    "a number that is none in a session": (
        [intent(metadata={}), session(metadata={**BOUGHT, "credits": "many"})], "no_credits", NO_NUMBER),
    "no number, of an intent that is later and of something else": (
        [intent(2, metadata={"type": "order"}), session(1, metadata={"type": "credit_purchase"})], "no_credits", None),
    "neither": ([intent(metadata={"type": "credit_purchase"}, **GUEST)], "no_credits, no_customer", None),
    "no money": ([intent(amount=0)], "no_amount", "a credit purchase of amount 0"),
    "a paid session without its intent": ([session()], "no_payment_intent", None),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
async def test_a_purchase_in_nobodys_balance_is_never_silent(name: str, shared_connection: Any) -> None:
    told, problem, error = PROBLEMS[name]
    for order in permutations(told):
        await empty(shared_connection)
        assert await fold_webhooks(shared_connection, order) == []
        assert await shared_connection.fetchval("SELECT count(*) FROM credits") == 0
        row = await shared_connection.fetchrow("SELECT payment_intent_id, problem FROM unassigned_purchases")
        assert tuple(row) == (INTENT, problem)
        said = await shared_connection.fetch("SELECT error FROM webhook_events WHERE status = 'ignored'")
        assert (error is None) is (said == [])
        assert all(error == row["error"] for row in said)


async def test_the_list_is_empty_again_once_the_customer_is_known(shared_connection: Any) -> None:
    await empty(shared_connection)
    for told, count in ((intent(**GUEST), 1), (session(metadata={}), 0)):
        await fold_webhooks(shared_connection, [told])
        await shared_connection.execute("TRUNCATE redrive.positions")
        assert await shared_connection.fetchval("SELECT count(*) FROM unassigned_purchases") == count
    assert await shared_connection.fetchval("SELECT balance FROM credits") == 100


async def test_a_checkout_that_cost_nothing_is_an_error_on_its_event(shared_connection: Any) -> None:
    """It has no payment, so no row can tell of it."""
    await empty(shared_connection)
    free = session(payment_intent=None, amount_total=0, payment_status="no_payment_required")
    await fold_webhooks(shared_connection, [free])
    row = await shared_connection.fetchrow("SELECT status, error FROM webhook_events")
    assert tuple(row) == ("ignored", "a credit purchase of amount 0")


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        (refund("re_1", 5, "reversed"), "ignored", "a status that redrive does not know"),
        (event("refund.created", id="re_1", amount=5), "ignored", "a refund without a payment intent"),
        (event("charge.dispute.closed", id="dp_1", status="lost"), "ignored", "a dispute without a payment intent"),
        (refund("re_1", 5, "failed"), "applied", None),
    ],
)
async def test_what_names_no_payment_or_no_status_says_so(
    told: Webhook, status: str, error: str | None, shared_connection: Any
) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, [told]) == []
    assert tuple(await shared_connection.fetchrow("SELECT status, error FROM webhook_events")) == (status, error)


async def test_a_sum_of_great_purchases_can_be_read(shared_connection: Any) -> None:
    await empty(shared_connection)
    great = [intent(id=f"pi_{number}", metadata={**BOUGHT, "credits": str(10**15)}) for number in range(20)]
    assert await fold_webhooks(shared_connection, great) == []
    assert await shared_connection.fetchval("SELECT balance FROM credits") == 20 * 10**15


@pytest.mark.parametrize("amount", [2**63 - 1, 10**15 + 1, -1])
@pytest.mark.parametrize(
    "tell",
    [
        charge,
        lambda amount: intent(id="pi_2", amount=amount),
        lambda amount: intent(id="pi_2", amount_received=amount),
        lambda amount: session(payment_intent="pi_2", amount_total=amount),
    ],
)
async def test_an_amount_beyond_all_bounds_is_a_dead_letter_and_hides_no_balance(
    tell: Callable[[int], Webhook], amount: int, shared_connection: Any
) -> None:
    await empty(shared_connection)
    (dead,) = await fold_webhooks(shared_connection, [intent(), dispute("lost", amount=10), tell(amount)])
    assert "amount" in dead.message
    assert await shared_connection.fetchval("SELECT credit_balance FROM accounts") == 99


async def test_an_amount_that_was_stored_without_a_bound_hides_no_balance(shared_connection: Any) -> None:
    await empty(shared_connection)
    await fold_webhooks(shared_connection, [intent(), charge(400), dispute("lost", amount=5)])
    await shared_connection.execute(f"UPDATE gen_1.payments SET charge_refunded = {2**63 - 1}, amount_received = -1")
    assert await shared_connection.fetchval("SELECT credit_balance FROM accounts") == 0


@pytest.mark.parametrize("order", [1, -1])
async def test_metadata_on_the_session_alone_brings_the_credits(order: int, shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("18-")[::order]) == []
    assert await shared_connection.fetchval("SELECT balance FROM credits WHERE customer_id = 'cus_case18'") == 100


async def test_of_several_items_the_one_with_a_tier_counts_and_the_earliest_end(shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("20-")) == []
    columns = "SELECT price_id, extract(epoch FROM current_period_end)::bigint, subscription_tier"
    read = f"{columns} FROM subscriptions JOIN accounts USING (subscription_id, current_period_end)"
    tiers: dict[str, tuple[str, str | None]] = {
        "price_plan_monthly": ("price_plan_monthly", "pro"),
        "price_addon_yearly": ("price_addon_yearly", "pro"),
        "price_other": ("price_addon_yearly", None),
    }
    for price, (shown, tier) in tiers.items():
        await store_price_tiers(shared_connection, {price: "pro"})
        assert tuple(await shared_connection.fetchrow(read)) == (shown, 1798542000, tier)
    await store_price_tiers(shared_connection, {})


async def test_a_purchase_without_a_payment_intent_is_not_silent(shared_connection: Any) -> None:
    """A checkout of mode `subscription`: its invoice is paid, and the credits are nobody's."""
    await empty(shared_connection)
    sold = session(payment_intent=None, mode="subscription", subscription="sub_1")
    assert await fold_webhooks(shared_connection, [sold]) == []
    error = await shared_connection.fetchval("SELECT error FROM webhook_events")
    assert error == "a credit purchase without a payment intent"
