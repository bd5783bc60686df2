"""`docs/how-to/correct-a-balance-or-an-account.md` as the page has it, for a test that has an installation."""

import asyncio
import re
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.support import signing
from tests.support.processes import Installation
from tests.support.records import stripe_event
from tests.support.waiting import limit

PAGE = (Path(__file__).parents[2] / "docs/how-to/correct-a-balance-or-an-account.md").read_text()
LOOK, GIVE, TAKE, UNFREEZE, ACTIVATE, AUDIT, SHOW = (
    shlex.split(line) for line in re.findall(r"^\$ redrive (.+)$", PAGE, re.MULTILINE)
)
(CURL,) = re.findall(r"^\$ (curl .*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

PURCHASE = {
    "id": "pi_credits", "object": "payment_intent", "amount": 1200, "currency": "eur", "customer": "cus_QX1",
    "status": "succeeded", "metadata": {"type": "credit_purchase", "credits": "12"},
}  # fmt: skip
SUBSCRIPTION = {
    "id": "sub_1RbN", "object": "subscription", "customer": "cus_QX1", "status": "unpaid", "cancel_at_period_end": False,
    "items": {"data": [{"price": {"id": "price_1"}, "current_period_end": 1_790_000_000}]},
}  # fmt: skip


async def deliver(installation: Installation, body: bytes) -> None:
    """From Stripe, signed."""
    headers = signing.stripe(body, int(time.time()))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{installation.ingest_url}/webhooks/stripe", data=body, headers=headers) as response,
    ):
        assert response.status == 200


class _Rows:
    """What users read of the page's customer."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def credits(self) -> int | None:
        balance = await self._connection.fetchval("SELECT balance FROM credits WHERE customer_id = 'cus_QX1'")
        return None if balance is None else int(balance)

    async def account(self) -> tuple[Any, ...]:
        sql = "SELECT is_frozen, frozen_reason, subscription_status FROM accounts WHERE customer_id = 'cus_QX1'"
        return tuple(await self._connection.fetchrow(sql) or ())

    async def until(self, balance: int, account: tuple[Any, ...]) -> None:
        async with limit("the corrected balance and account"):
            while (await self.credits(), await self.account()) != (balance, account):
                await asyncio.sleep(0.05)


async def correct_as_the_page_says(installation: Installation) -> None:
    """A customer with 12 credits, frozen for a subscription that is unpaid."""
    await deliver(installation, stripe_event("evt_bought", "payment_intent.succeeded", PURCHASE))
    await deliver(installation, stripe_event("evt_unpaid", "customer.subscription.created", SUBSCRIPTION))
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        rows = _Rows(connection)
        await rows.until(12, (True, "subscription_unpaid", "unpaid"))
        _, out = await installation.redrive(*LOOK)
        assert re.search(r"^ *balance +12 +62 *$", out, re.MULTILINE)
        assert "nothing was changed: this was a dry run" in out
        assert await rows.credits() == 12

        _, out = await installation.redrive(*GIVE)
        assert re.search(r"^correction:ticket-4711 is on the log, at webhooks\.operator/\d+/\d+$", out, re.MULTILINE)
        assert await rows.credits() == 62, "it waits until the processors have folded it"
        _, out = await installation.redrive(*GIVE)
        assert "is already on the log" in out
        await installation.redrive(*TAKE, "--wait")
        assert await rows.credits() == 12

        await installation.redrive(*UNFREEZE, "--wait")
        assert await rows.account() == (False, None, "unpaid")
        await installation.redrive(*ACTIVATE, "--wait")
        assert await rows.account() == (False, None, "active")

        await _ask(installation, CURL)
        await rows.until(37, (False, None, "active"))
        noted = (await installation.redrive_json(*AUDIT))["audit"]
        assert [(one["action"], one["reason"]) for one in noted] == [
            ("credits.adjust", reason)
            for reason in ("ticket 4714", "ticket 4711 was a mistake", "refund of ticket 4711")
        ]
        assert noted[0]["operator"] == "zoe"
        assert (await installation.redrive_json(*SHOW))["event_id"] == "correction:ticket-4711"
    finally:
        await connection.close()


async def _ask(installation: Installation, curl: str) -> None:
    """What curl would."""
    words = shlex.split(curl.replace("$ADMIN_API_KEY", installation.address("ADMIN_API_KEY")))
    said = [(flag, value) for flag, value in pairwise(words) if flag in ("-X", "-H", "-d")]
    ((_, method), *headers, (_, body)) = said
    (url,) = (word for word in words if word.startswith("http://127.0.0.1:8081/"))
    path = url.removeprefix("http://127.0.0.1:8081")
    named = dict(header.split(": ", 1) for _, header in headers)
    async with (
        aiohttp.ClientSession(installation.url("console")) as session,
        session.request(method, path, headers=named, data=body) as response,
    ):
        assert (response.status, (await response.json())["status"]) == (200, "accepted")
