"""Invariant 4: an honest retry is recognised although its bytes, its signature or its attempt number differ."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from tests.conftest import FIXTURES, Stack
from tests.support import signing, signing_aircall, signing_hubspot, signing_telnyx
from tests.support.ingresses import now_ms, post, run_ingress, source

OTHER_TOKEN = "an-older-token-0123456789"
Change = Callable[[Any], Any]


def hubspot_attempt(payload: Any) -> Any:
    return [{**event, "attemptNumber": event["attemptNumber"] + 1} for event in payload]


def telnyx_failover(payload: Any) -> Any:
    return {**payload, "meta": {"attempt": 2, "delivered_to": "https://hooks2.example.com/webhooks/telnyx"}}


def stripe_pending(payload: Any) -> Any:
    return {**payload, "pending_webhooks": 0}


def aircall_new_token(payload: Any) -> Any:
    """The webhook was made anew: it presents the other of two tokens."""
    return {**payload, "token": OTHER_TOKEN}


def sign(provider: str, url: str, body: bytes, now: int) -> dict[str, str]:
    if provider == "hubspot":
        return signing_hubspot.hubspot(url, body, now)
    if provider == "telnyx":
        return signing_telnyx.telnyx(body, now)
    return signing.stripe(body, now) if provider == "stripe" else {}


RETRIES: list[tuple[str, str, Change]] = [
    ("hubspot", "hubspot/batch.contact_and_deal.json", hubspot_attempt),
    ("telnyx", "telnyx/message.finalized.delivered.json", telnyx_failover),
    ("stripe", "stripe/payment_intent.succeeded.json", stripe_pending),
    ("aircall", "aircall/call.ended.json", aircall_new_token),
]


@pytest.mark.parametrize(("provider", "fixture", "change"), RETRIES, ids=[one[0] for one in RETRIES])
async def test_a_retry_is_a_duplicate_and_not_a_conflict(
    stack: Stack,
    topic: str,
    source_name: str,
    tmp_path: Path,
    read_topic: Callable[[str], Awaitable[list[ConsumerRecord]]],
    provider: str,
    fixture: str,
    change: Change,
) -> None:
    found = source(source_name, provider)
    if provider == "aircall":
        found = replace(found, secrets=replace(found.secrets, values=(signing_aircall.TOKEN, OTHER_TOKEN)))
    payload = json.loads((FIXTURES / fixture).read_text())
    if provider == "aircall":
        payload["token"] = signing_aircall.TOKEN
    async with run_ingress(stack, {source_name: found}, tmp_path, now_ms) as running:
        answers = []
        for number, said in enumerate((payload, change(payload))):
            body = json.dumps(said, indent=number or None).encode()
            url, now = f"{running.url}/webhooks/{source_name}", now_ms() // 1000 - number
            headers = sign(provider, url, body, now)
            answers.append(await post(running, f"/webhooks/{source_name}", body, headers))
    (first, second) = answers
    assert (first[0], first[1]["status"]) == (200, "accepted")
    assert (second[0], second[1]["status"]) == (200, "duplicate")
    assert second[2] == first[2], "with the first record's location"
    assert len(await read_topic(topic)) == 1
