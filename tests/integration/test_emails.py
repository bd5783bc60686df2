"""SendGrid: a row tells of one person, and what came back in the end has failed."""

import json
from itertools import permutations
from typing import Any

import pytest

from tests.support.cases import NOW, fold_webhooks, webhook, webhooks_of
from tests.support.tables import empty

Row = dict[str, Any]
BOUNCE: Row = {"type": "bounce", "status": "5.1.1", "reason": "no such user"}
A, B = "a@example.test", "b@example.test"


def event(kind: str, email: str = A, second: int = 0, **fields: Any) -> Row:
    name = {"event": kind, "email": email, "timestamp": NOW + second, "sg_event_id": f"{kind}{email}{second}"}
    return {**name, "sg_message_id": f"m.recvd-1-{email}", **fields}


STORIES: dict[str, tuple[list[Row], tuple[str, str, str | None]]] = {
    "one was reached, one was not": ([event("delivered"), event("bounce", B, **BOUNCE)], (B, "failed", "5.1.1")),
    "the one who was not is told first": (
        [event("bounce", A, **BOUNCE), event("delivered", B, 9), event("open", B, 10)], (A, "failed", "5.1.1")),
    "one was reached, one was dropped": (
        [event("delivered"), event("dropped", B, reason="Bounced Address")], (A, "delivered", None)),
    "one read it, one was reached": ([event("delivered"), event("open", B)], (B, "read", None)),
    "it came back after it was delivered": (
        [event("delivered"), event("bounce", A, 60, **BOUNCE)], (A, "failed", "5.1.1")),
    "it came back after a machine had opened its links": (
        [event("delivered"), event("click", A, 1), event("bounce", A, 60, **BOUNCE)], (A, "failed", "5.1.1")),
    "it was blocked after it was delivered": (
        [event("delivered"), event("bounce", A, 60, type="blocked")], (A, "failed", "blocked")),
    "it was tried again": ([event("deferred"), event("delivered", A, 60)], (A, "delivered", None)),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
async def test_a_row_is_of_one_person(name: str, shared_connection: Any) -> None:
    told, expected = STORIES[name]
    for order in permutations(told):
        await empty(shared_connection)
        assert await fold_webhooks(shared_connection, [webhook("sendgrid", json.dumps(order).encode())]) == []
        row = await shared_connection.fetchrow("SELECT recipient, status, error_code FROM messages")
        assert tuple(row) == expected


async def test_one_send_to_two_people_pairs_each_with_its_own(shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("25-")) == []
    row = await shared_connection.fetchrow("SELECT message_id, recipient, status, error_code FROM messages")
    assert tuple(row) == ("case25", B, "failed", "5.1.1")


@pytest.mark.parametrize("order", [1, -1])
async def test_a_late_bounce_is_the_outcome(order: int, shared_connection: Any) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("26-")[::order]) == []
    row = await shared_connection.fetchrow(
        "SELECT status, error_code, error_message, delivered_at IS NOT NULL, failed_at IS NOT NULL FROM messages"
    )
    assert tuple(row) == ("failed", "5.1.10", "mailbox gone", True, True)
